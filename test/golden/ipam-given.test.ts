/** What Calico's IPAM library did, done by ours: in memory here, on a real etcd in test/etcd. */
import { expect, test } from 'vitest';
import { playGiven } from '../helpers/given-steps.ts';
import { MemoryStore } from '../helpers/memory-store.ts';

test.each(['ipam.json', 'ipam-borrow.json'])('%s', async (name) => {
  expect(await playGiven(name, async () => new MemoryStore())).toBeGreaterThanOrEqual(7);
});
