/** Real processes that allocate from one file datastore at the same time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ipamProblems } from '../../src/ipam/check.ts';
import { allocationsOf, decodeBlock } from '../../src/model/ipam-values.ts';
import { IPAM_BLOCKS, ROOT, resourceKey } from '../../src/model/keys.ts';
import { openDatastore } from '../../src/store/open.ts';
import { allocateInProcesses, heldTwice, stillHeld } from '../helpers/allocation-histories.ts';

const PROCESSES = 6;
const TIMES = 12;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-ipam-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test(
  'addresses of several processes are all distinct, and nothing is left over',
  { timeout: 90_000 },
  async () => {
    const datastore = `file://${directory}`;
    const store = await openDatastore({ datastore, env: {} });
    const resource = (kind: 'IPPool' | 'Node', name: string, spec: object) =>
      store.create(
        resourceKey(kind, name),
        JSON.stringify({ kind, apiVersion: 'projectcalico.org/v3', metadata: { name }, spec }),
      );
    await resource('IPPool', 'pool', { cidr: '10.50.0.0/24', blockSize: 28, ipipMode: 'Always' });
    for (const node of ['node1', 'node2'])
      await resource('Node', node, { bgp: { ipv4Address: '10.0.1.11/24' } });
    // Three processes a node: they race for the same blocks as well as for others'.
    const processes = Array.from({ length: PROCESSES }, (_, i) => ({
      node: `node${(i % 2) + 1}`,
      handle: `p${i}`,
      times: TIMES,
    }));
    const histories = await allocateInProcesses(datastore, processes, 60_000);
    expect(heldTwice(histories.flat())).toEqual([]);
    const addresses = stillHeld(histories.flat());
    expect(addresses).toHaveLength((PROCESSES * TIMES * 2) / 3);
    expect(new Set(addresses).size).toBe(addresses.length);
    const blocks = (await store.list(IPAM_BLOCKS)).entries.map(({ value }) => decodeBlock(value));
    expect(blocks.flatMap((block) => (block.ok ? allocationsOf(block.value) : []))).toHaveLength(
      addresses.length,
    );
    const { entries } = await store.list(ROOT);
    expect(ipamProblems(entries.map(({ key, value }) => [key, value] as const))).toEqual([]);
    await store.close();
  },
);
