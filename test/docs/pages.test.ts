/**
 * Runs what the documentation tells people to type, and compares what it promises (CONTRIBUTING.md,
 * "Documentation is executed"). Pages with a lab run behind `unshare`: mounts, processes and network of
 * their own, so that names there collide with nothing and all of it ends with the first process.
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Block, blocksOf, type Command, outputMatches, scriptOf } from './console-page.ts';

const ROOT = join(import.meta.dirname, '../..');
const PAGE_DEADLINE_MS = 240_000;
const MAY_LAB = process.getuid?.() === 0 && existsSync('/dev/net/tun');

const pages = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** What `unshare` leaves shared although labs write to it; namespaces and their names are in /run and /etc/netns. */
const APART = `
mount -t tmpfs tmpfs /run
cp -a /etc ../etc && mount --bind ../etc /etc
ip link set lo up
`;

/** An empty working directory with the examples, `tortie` on PATH and a datastore. */
function sandbox(): { directory: string; environment: NodeJS.ProcessEnv } {
  const directory = mkdtempSync(join(tmpdir(), 'tortie-docs-'));
  for (const name of ['bin', 'work', 'results']) mkdirSync(join(directory, name));
  symlinkSync(join(ROOT, 'dist/cli/main.js'), join(directory, 'bin/tortie'));
  symlinkSync(join(ROOT, 'examples'), join(directory, 'work/examples'));
  const { PATH, LANG } = process.env;
  const environment = {
    PATH: `${join(directory, 'bin')}:${PATH}`,
    LANG,
    HOME: directory,
    TORTIE_DATASTORE: `file://${join(directory, 'store')}`,
  };
  return { directory, environment };
}

/** Runs the script to its end or the deadline; a lab's processes end with their own process 1. */
async function runScript(script: string, directory: string, environment: NodeJS.ProcessEnv, lab: boolean) {
  const file = join(directory, 'page.sh');
  writeFileSync(file, lab ? `${APART}${script}` : script);
  const apart = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', file];
  const child = spawn(lab ? 'unshare' : 'bash', lab ? apart : [file], {
    cwd: join(directory, 'work'),
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  const timer = setTimeout(() => process.kill(-(child.pid ?? 0), 'SIGKILL'), PAGE_DEADLINE_MS);
  await new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject));
  clearTimeout(timer);
}

function verdict(command: Command, results: string, n: number): string {
  const exitFile = join(results, `${n}.exit`);
  if (!existsSync(exitFile)) return `did not finish within the ${PAGE_DEADLINE_MS / 1000} s of its page`;
  const got = readFileSync(join(results, `${n}.out`), 'utf8');
  const status = Number(readFileSync(exitFile, 'utf8'));
  if (status !== command.exitStatus)
    return `exit ${status}, expected ${command.exitStatus}; it printed:\n${got}`;
  const lines = got.replace(/\n$/, '').split('\n');
  if (command.output && !outputMatches(command.output, lines)) {
    return `the page shows:\n${command.output.join('\n')}\nit printed:\n${got}`;
  }
  return 'as shown';
}

function runs(block: Block): boolean {
  return block.notRun === undefined && (!block.needsLab || MAY_LAB);
}

describe.each(pages)('%s', (page) => {
  const blocks = blocksOf(readFileSync(join(ROOT, page), 'utf8'));
  const commands = blocks.filter(runs).flatMap((block) => block.commands);
  const { directory, environment } = sandbox();
  const results = join(directory, 'results');

  beforeAll(async () => {
    if (commands.length === 0) return;
    const lab = blocks.some((block) => block.needsLab && runs(block));
    await runScript(scriptOf(commands, results), directory, environment, lab);
  }, PAGE_DEADLINE_MS + 10_000);

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test('every fence is closed and every console block is understood', () => {
    expect(blocks.every((block) => block.commands.length > 0)).toBe(true);
  });

  for (const block of blocks) {
    if (!runs(block)) {
      test.skip(`line ${block.line}: ${block.notRun ?? 'needs root and /dev/net/tun'}`, () => {});
      continue;
    }
    for (const command of block.commands) {
      test(`line ${command.line}: ${command.text.split('\n')[0]}`, () => {
        const shown = `$ ${command.text}\n`;
        expect(shown + verdict(command, results, commands.indexOf(command))).toBe(`${shown}as shown`);
      });
    }
  }
});
