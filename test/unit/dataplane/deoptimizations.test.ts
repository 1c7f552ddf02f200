/** What runs per packet is optimized once and stays so: a function that V8 takes back again and again is slow for ever. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const MICRO = join(import.meta.dirname, '../../../dist/bench/micro.js');
const DEADLINE_MS = 120_000;

test(
  'the inner loops keep their optimized code once they are warm',
  () => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      ['--no-concurrent-recompilation', MICRO, '--deoptimizations'],
      {
        encoding: 'utf8',
        timeout: DEADLINE_MS,
      },
    );
    expect(status, stderr).toBe(0);
    const said = [...stdout.matchAll(/reason: (.+?)\): begin\. deoptimizing \S+ <JSFunction (\S*)/g)];
    const functions = said.map(([, reason, name]) => `${name}: ${reason}`);
    // The last is deoptimized on purpose: the proof that V8 tells.
    expect(functions.at(-1), stdout).toMatch(/^canary/);
    expect(functions.slice(0, -1)).toEqual([]);
  },
  DEADLINE_MS,
);
