/** The bench measures with real programs, and leaves nothing behind. Its figures are not judged here. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { clangOnPath } from '../../src/bench/clang-twin.ts';

const MAIN = join(import.meta.dirname, '../../dist/bench/main.js');
const bench = (words: readonly string[]) =>
  spawnSync(process.execPath, [MAIN, ...words], {
    encoding: 'utf8',
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
const FIGURE = /\|\s*[\d.]+\s*\|/;

test('a round of two contenders: figures for both, and no namespace stays', () => {
  const words = ['--quick', '--figures', 'flood', '--only', 'underlay', '--only', 'tortie ipip'];
  const ran = bench(words);
  expect(ran.status, ran.stderr).toBe(0);
  for (const contender of ['underlay', 'tortie ipip'])
    expect(ran.stdout.split('\n').find((line) => line.startsWith(`| ${contender} |`))).toMatch(FIGURE);
  const namespaces = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8', timeout: 10_000 });
  expect(namespaces).not.toContain(`tortie-b${ran.pid}-`);
});

test.skipIf(clangOnPath(process.env.PATH ?? '') === undefined)(
  'the fast path by clang: its programs are loaded over the agents’ maps, and carry packets',
  () => {
    const words = ['--quick', '--figures', 'flood', '--only', 'fast path by clang'];
    const ran = bench(words);
    expect(ran.status, ran.stderr).toBe(0);
    expect(ran.stdout.split('\n').find((line) => line.startsWith('| fast path by clang |'))).toMatch(FIGURE);
    expect(readFileSync('/proc/mounts', 'utf8')).not.toContain('tortie-bench-');
  },
);

test.skipIf(clangOnPath(process.env.PATH ?? '') === undefined || !existsSync('/usr/include/stdio.h'))(
  'the userspace path’s calls from C: both transports carry packets',
  () => {
    const names = ['ipip in C', 'udp in C'];
    const words = ['--quick', '--figures', 'flood,tcp-1500', ...names.flatMap((name) => ['--only', name])];
    const ran = bench(words);
    expect(ran.status, ran.stderr).toBe(0);
    for (const name of names)
      expect(ran.stdout.split('\n').find((line) => line.startsWith(`| ${name} |`))).toMatch(FIGURE);
  },
);
