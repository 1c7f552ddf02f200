/** Which clang the bench takes; what it makes of its output is tried with a real one in test/netns/bench.test.ts. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clangOnPath } from '../../../src/bench/clang-twin.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-clang-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test.each([
  [['clang', 'clang-19'], 'clang'],
  [['clang-9', 'clang-14', 'clang++-15', 'clang-format-16'], 'clang-14'],
  [['gcc', 'clangd'], undefined],
])('of %j it is %s', (programs, wanted) => {
  const second = join(directory, 'second');
  mkdirSync(second);
  programs.forEach((name, i) => {
    writeFileSync(join(i % 2 === 0 ? directory : second, name), '');
  });
  expect(clangOnPath(`${directory}:${join(directory, 'missing')}:${second}`)).toBe(wanted);
});
