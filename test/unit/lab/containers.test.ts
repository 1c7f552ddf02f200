/** Which container is which host of a topology, as processes tell it (no Docker here: a /proc of our own). */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { containerNamespaces } from '../../../src/lab/containers.ts';

let proc: string;
beforeEach(() => {
  proc = mkdtempSync(join(tmpdir(), 'tortie-proc-'));
});
afterEach(() => rmSync(proc, { recursive: true }));

/** `namespace` is what two processes in one network share. */
function addProcess(pid: number, environment: readonly string[], namespace: string): void {
  mkdirSync(join(proc, String(pid), 'ns'), { recursive: true });
  writeFileSync(join(proc, String(pid), 'environ'), environment.map((entry) => `${entry}\0`).join(''));
  writeFileSync(join(proc, namespace), '');
  symlinkSync(join(proc, namespace), join(proc, String(pid), 'ns/net'));
}

test('a host is found by its first process; others of the machine say nothing', () => {
  addProcess(1, ['PATH=/bin'], 'machine');
  addProcess(900, ['A=b', 'TORTIE_LAB_HOST=node1', 'C=d'], 'node1');
  addProcess(1000, ['TORTIE_LAB_HOST=node1'], 'node1');
  addProcess(901, ['NOT_TORTIE_LAB_HOST=node2'], 'machine');
  addProcess(902, ['TORTIE_LAB_HOST=w1'], 'w1');
  expect(containerNamespaces(proc)).toEqual(
    new Map([
      ['node1', `${proc}/900/ns/net`],
      ['w1', `${proc}/902/ns/net`],
    ]),
  );
});

test('a process that ends meanwhile, or is not ours to see, is passed over', () => {
  mkdirSync(join(proc, '7'));
  addProcess(8, ['TORTIE_LAB_HOST=w1'], 'w1');
  rmSync(join(proc, 'w1')); // the namespace's file leads nowhere
  expect(containerNamespaces(proc).size).toBe(0);
});

test('two networks that say they are one host are refused, not guessed at', () => {
  addProcess(10, ['TORTIE_LAB_HOST=node1'], 'one');
  addProcess(11, ['TORTIE_LAB_HOST=node1'], 'other');
  expect(() => containerNamespaces(proc)).toThrow(/two containers say that they are node1/);
});
