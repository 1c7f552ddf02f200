import { readFileSync } from 'node:fs';

/** `tortie version`: the package's own version, from its package.json. */
export async function run(): Promise<number> {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  process.stdout.write(`Client Version:    v${version}\n`);
  return 0;
}
