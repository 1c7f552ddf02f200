/**
 * Many processes allocate from and release to one etcd at once. How many addresses in all: TORTIE_TEST_ALLOCATIONS
 * (default 320: a minute on two loaded cores, half of it starting Node 32 times; 5000 in scripts/soak).
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { systemRandom } from '../../src/base/random.ts';
import { createAddressAllocator } from '../../src/control/address-allocator.ts';
import { formatIpv4 } from '../../src/ip/ipv4.ts';
import { ipamProblems } from '../../src/ipam/check.ts';
import { allocationsOf, decodeBlock } from '../../src/model/ipam-values.ts';
import { IPAM_BLOCKS, IPAM_HANDLES, ROOT, resourceKey } from '../../src/model/keys.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { openDatastore } from '../../src/store/open.ts';
import { allocateInProcesses, heldTwice, stillHeld } from '../helpers/allocation-histories.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';
import { inProcessClient } from '../helpers/recordings.ts';

const PROCESSES = 32;
const NODES = 8;
const IN_ALL = Number(process.env.TORTIE_TEST_ALLOCATIONS ?? 320);
const EACH = Math.ceil(IN_ALL / PROCESSES);
/** Room for what stays held and little more, so that nodes run out of blocks and borrow. */
const POOL_LENGTH = 32 - Math.ceil(Math.log2(IN_ALL * 0.75));
/** 64 blocks or fewer: a node may own 20, and what nobody owns nobody can borrow. */
const BLOCK_LENGTH = Math.min(28, POOL_LENGTH + 6);
const DEADLINE_MS = 60_000 + IN_ALL * 200;

let cluster: EtcdCluster;
let store: Datastore;

beforeAll(async () => {
  cluster = await EtcdCluster.start();
  store = await openDatastore({ datastore: cluster.url, env: {} });
});

afterAll(async () => {
  await store?.close();
  await cluster?.stop();
});

async function create(kind: 'IPPool' | 'Node', name: string, spec: object): Promise<void> {
  await store.create(
    resourceKey(kind, name),
    JSON.stringify({ kind, apiVersion: 'projectcalico.org/v3', metadata: { name }, spec }),
  );
}

async function allocated(): Promise<string[]> {
  const { entries } = await store.list(IPAM_BLOCKS);
  return entries
    .flatMap(({ value }) => {
      const block = decodeBlock(value);
      return block.ok ? allocationsOf(block.value) : [];
    })
    .map(({ address }) => formatIpv4(address))
    .sort();
}

async function problems(): Promise<string[]> {
  const { entries } = await store.list(ROOT);
  return ipamProblems(entries.map(({ key, value }) => [key, value] as const));
}

test(`${PROCESSES} processes, ${EACH * PROCESSES} addresses`, { timeout: DEADLINE_MS }, async () => {
  const cidr = `10.50.0.0/${POOL_LENGTH}`;
  await create('IPPool', 'pool', { cidr, blockSize: BLOCK_LENGTH, ipipMode: 'Always' });
  for (let i = 0; i < NODES; i++)
    await create('Node', `node${i}`, { bgp: { ipv4Address: `10.0.1.${10 + i}/24` } });

  const processes = Array.from({ length: PROCESSES }, (_, i) => ({
    node: `node${i % NODES}`,
    handle: `p${i}`,
    times: EACH,
  }));
  const histories = (await allocateInProcesses(cluster.url, processes, DEADLINE_MS)).flat();

  expect(histories).toHaveLength(EACH * PROCESSES);
  expect(heldTwice(histories)).toEqual([]);
  expect(await allocated()).toEqual(stillHeld(histories));
  expect(await problems()).toEqual([]);
  expect(await inProcessClient(['ipam', 'check'], '', cluster.url)).toMatchObject({ exit: 0, stderr: '' });

  // A node that goes takes with it what is left: nothing is in use, and no handle counts anything.
  const allocator = createAddressAllocator({
    ...{ store, clock: systemClock, random: systemRandom, logger: silentLogger },
  });
  await Promise.all(Array.from({ length: NODES }, (_, i) => allocator.releaseNode(`node${i}`)));
  expect(await allocated()).toEqual([]);
  expect((await store.list(IPAM_HANDLES)).entries).toEqual([]);
  expect(await problems()).toEqual([]);
});
