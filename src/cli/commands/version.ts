import { readFileSync } from 'node:fs';
import { installedFile } from '../../base/installation.ts';

/** `tortie version`: the package's own version, from its package.json. Words are read only where there are some. */
export async function run(argv: readonly string[]): Promise<number> {
  if (argv.length === 0) return printVersion();
  const { handler, newCommand, runCommand } = await import('../command-line.ts');
  const command = newCommand('version', 'Print the version of this program');
  command
    .option('-c, --config <file>', "accepted for calicoctl's sake; no datastore is asked")
    .option('--allow-version-mismatch', "accepted for calicoctl's sake; versions are never compared")
    .action(handler(printVersion));
  return runCommand(command, argv);
}

async function printVersion(): Promise<number> {
  const { version } = JSON.parse(readFileSync(installedFile('package.json'), 'utf8'));
  process.stdout.write(`Client Version:    v${version}\n`);
  return 0;
}
