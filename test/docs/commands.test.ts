/**
 * docs/commands.md is what every `--help` prints, one after the other: the reference for readers, and the
 * snapshot that shows a changed flag as a diff. After a change: npx vitest run test/docs/commands.test.ts -u
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist/cli/main.js');

async function helpOf(words: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...words, '--help'], {
    env: { PATH: process.env.PATH, COLUMNS: '100' },
    timeout: 20_000,
  });
  return stdout.trim();
}

/** The words that a help text lists as commands: two blanks, the word, its arguments, two blanks, its summary. */
function subcommandsOf(words: readonly string[], help: string): string[] {
  const lines = words.length === 0 ? help.split('\n') : (help.split(/^Commands:$/m)[1] ?? '').split('\n');
  return lines
    .map((line) => /^ {2}([a-z]+)(\|[a-z]+)?( [[<].*)?\s{2,}\S/.exec(line)?.[1])
    .filter((name) => name !== undefined && name !== 'help') as string[];
}

async function sectionsOf(words: readonly string[]): Promise<string[]> {
  const help = await helpOf(words);
  const heading = `${'#'.repeat(Math.min(words.length + 1, 3))} ${['tortie', ...words].join(' ')}`;
  const below: string[] = [];
  for (const name of subcommandsOf(words, help)) below.push(...(await sectionsOf([...words, name])));
  return [`${heading}\n\n\`\`\`\n${help}\n\`\`\`\n`, ...below];
}

test('docs/commands.md is what the commands say of themselves', async () => {
  const sections = await sectionsOf([]);
  expect(sections.length).toBeGreaterThan(5);
  await expect(sections.join('\n')).toMatchFileSnapshot(join(ROOT, 'docs/commands.md'));
});

test('help goes to stdout and ends with 0, misuse to stderr with 2', async () => {
  const run = promisify(execFile);
  for (const words of [
    ['no-such-command'],
    ['get', '--no-such-flag'],
    [],
    ['version', 'x'],
    ['ipam', 'no-such-command'],
  ]) {
    const failed = await run(process.execPath, [MAIN, ...words]).then(
      () => undefined,
      (error) => error,
    );
    expect(failed, words.join(' ')).toMatchObject({ code: 2, stdout: '' });
    expect(failed.stderr).not.toBe('');
  }
});
