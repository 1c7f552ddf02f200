/** `explain` answers for scripts too: its exit status is the answer. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inProcessClient } from '../../helpers/recordings.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-explain-'));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const tortie = (words: string, input = '') =>
  inProcessClient(words.split(' '), input, `file://${root}/store`);

const CLUSTER = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 192.168.0.0/16, ipipMode: Always}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node1}
spec: {bgp: {ipv4Address: 10.0.1.11/24}}
`;

test('a pair of which one direction is unroutable ends with 1, explained all the same', async () => {
  expect((await tortie('apply -f -', CLUSTER)).exit).toBe(0);
  const nobody = '192.168.5.1';
  for (const pair of [`node1 ${nobody}`, `${nobody} node1`]) {
    const { exit, stdout, stderr } = await tortie(`explain ${pair}`);
    expect({ exit, stderr }).toEqual({ exit: 1, stderr: '' });
    expect(stdout).toContain('unroutable');
    const json = await tortie(`explain --json ${pair}`);
    expect(json.exit).toBe(1);
    expect(JSON.stringify(JSON.parse(json.stdout))).toContain('"verdict":"unroutable"');
  }
  expect((await tortie('explain node1 198.51.100.10')).exit).toBe(0);
});
