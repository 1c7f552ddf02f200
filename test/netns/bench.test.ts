/** The bench measures with real programs, and leaves nothing behind. Its figures are not judged here. */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const MAIN = join(import.meta.dirname, '../../dist/bench/main.js');
const FIGURE = /\|\s*[\d.]+\s*\|/;

test('a round of two contenders: figures for both, and no namespace stays', () => {
  const words = ['--quick', '--figures', 'flood', '--only', 'underlay', '--only', 'tortie ipip'];
  const ran = spawnSync(process.execPath, [MAIN, ...words], {
    encoding: 'utf8',
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(ran.status, ran.stderr).toBe(0);
  for (const contender of ['underlay', 'tortie ipip'])
    expect(ran.stdout.split('\n').find((line) => line.startsWith(`| ${contender} |`))).toMatch(FIGURE);
  const namespaces = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8', timeout: 10_000 });
  expect(namespaces).not.toContain(`tortie-b${ran.pid}-`);
});
