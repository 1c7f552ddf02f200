import { readFileSync } from 'node:fs';
import { installedFile } from '../../base/installation.ts';

/** `tortie version`: the package's own version, from its package.json. */
export async function run(): Promise<number> {
  const { version } = JSON.parse(readFileSync(installedFile('package.json'), 'utf8'));
  process.stdout.write(`Client Version:    v${version}\n`);
  return 0;
}
