/** What keeps IPAM clean, with a datastore that is real: nodes that go, processes that died half way, the lock. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { systemRandom } from '../../src/base/random.ts';
import { type AddressAllocator, createAddressAllocator } from '../../src/control/address-allocator.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { prefix } from '../../src/ip/prefix.ts';
import { ipamProblems } from '../../src/ipam/check.ts';
import { affinityKey, handleKey, ROOT, resourceKey } from '../../src/model/keys.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { openDatastore } from '../../src/store/open.ts';
import { inProcessClient } from '../helpers/recordings.ts';

export interface UpkeepPlace {
  /** An empty datastore. */
  readonly url: () => string;
  readonly empty: () => Promise<void> | void;
}

const MANIFEST = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.50.0.0/24, blockSize: 28, ipipMode: Always}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node1}
spec: {bgp: {ipv4Address: 10.0.1.11/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node2}
spec: {bgp: {ipv4Address: 10.0.1.12/24}}
`;

export function ipamUpkeep(name: string, place: UpkeepPlace): void {
  describe(`upkeep of IPAM on ${name}`, () => {
    let store: Datastore;
    let allocator: AddressAllocator;
    let scratch: string;

    beforeEach(async () => {
      await place.empty();
      scratch = mkdtempSync(join(tmpdir(), 'tortie-upkeep-'));
      store = await openDatastore({ datastore: place.url(), env: {} });
      allocator = createAddressAllocator({
        ...{ store, clock: systemClock, random: systemRandom, logger: silentLogger },
      });
      expect((await tortie('apply', '-f', '-')).exit).toBe(0);
    });

    afterEach(async () => {
      rmSync(scratch, { recursive: true, force: true });
      await store.close();
    });

    const tortie = (...argv: readonly string[]) => inProcessClient(argv, MANIFEST, place.url());
    const handle = (node: string, own: string) => ({ node, handle: own, attributes: {} });

    async function values(): Promise<Map<string, string>> {
      const { entries } = await store.list(ROOT);
      return new Map(entries.map(({ key, value }) => [key, value] as const));
    }

    async function put(key: string, value: object): Promise<void> {
      const old = await store.get(key);
      await (old
        ? store.update(key, JSON.stringify(value), old.revision)
        : store.create(key, JSON.stringify(value)));
    }

    test('a deleted node gives back its addresses, its tunnel address, what it borrowed, and its blocks', async () => {
      const shared = await allocator.assign(handle('node1', 'w1'));
      const neighbour = (shared.block.address + 9) as typeof shared.address;
      await allocator.assign({ ...handle('node2', 'borrower'), address: neighbour });
      await allocator.assignMany(handle('node2', 'w2'), 20);
      expect(await allocator.assignTunnelAddress('node2')).not.toBeNull();
      // A workload of another node in a block of the one that goes.
      const [own] = await allocator.held('w2');
      const inUse = ((own?.block.address ?? 0) + 15) as typeof shared.address;
      await allocator.releaseAddress(inUse);
      await allocator.assign({ ...handle('node1', 'guest'), address: inUse });

      expect(await tortie('delete', 'node', 'node2')).toMatchObject({ exit: 0 });
      const left = await values();
      expect([...left.keys()].filter((key) => key.includes('/host/node2/'))).toEqual([]);
      expect([...left.keys()].filter((key) => key.includes('/handle/')).sort()).toEqual(
        ['w1', 'guest'].map(handleKey).sort(),
      );
      expect(ipamProblems(left)).toEqual([]);
      expect(await tortie('ipam', 'check')).toMatchObject({ exit: 0 });
    });

    test('affinities that a dead process left are settled', async () => {
      const mine = await allocator.assign({ ...handle('node1', 'w1'), address: ipv4('10.50.0.1') });
      const theirs = await allocator.assign({ ...handle('node2', 'w2'), address: ipv4('10.50.0.17') });
      const states = { pending: '10.50.0.240/28', confirmed: '10.50.0.224/28' };
      for (const [state, cidr] of Object.entries(states))
        await put(affinityKey('node1', prefix(cidr)), { state, deleted: false });
      await put(affinityKey('node1', theirs.block), { state: 'confirmed', deleted: false });
      await put(affinityKey('node1', mine.block), { state: 'pendingDeletion', deleted: false });
      expect(ipamProblems(await values())).toHaveLength(4);
      await allocator.settleAffinities('node1');
      const left = await values();
      expect(ipamProblems(left)).toEqual([]);
      // The one with an address in use is kept, not released.
      expect([...left.keys()].filter((key) => key.includes('/host/node1/'))).toEqual([
        affinityKey('node1', mine.block),
      ]);
    });

    test('nothing is given while the cluster is locked, but what is released is released', async () => {
      await allocator.assign(handle('node1', 'w1'));
      const cluster = { kind: 'ClusterInformation', apiVersion: 'projectcalico.org/v3' };
      await put(resourceKey('ClusterInformation', 'default'), {
        ...{ ...cluster, metadata: { name: 'default' }, spec: { datastoreReady: false } },
      });
      const before = await values();
      for (const refused of [
        () => allocator.assign(handle('node1', 'w3')),
        () => allocator.assignMany(handle('node2', 'w3'), 3),
        () => allocator.assignTunnelAddress('node1'),
        () => allocator.settleAffinities('node1'),
      ])
        await expect(refused()).rejects.toMatchObject({ code: 'ERR_DATASTORE_LOCKED', exitCode: 1 });
      expect(await values()).toEqual(before);
      expect(await allocator.releaseByHandle('w1')).toHaveLength(1);
    });

    test('what `ipam check` names, `ipam release --from-report` mends', async () => {
      const cidr = '10.50.0.16/28';
      const { address } = await allocator.assign({
        ...handle('node1', 'right'),
        address: ipv4('10.50.0.17'),
      });
      await allocator.assign({ ...handle('node2', 'lost'), address: ipv4('10.50.0.33') });
      await allocator.assignMany(handle('node1', 'short'), 3);
      await put(handleKey('dead'), { block: { [cidr]: 1, '10.50.0.240/28': 2 }, deleted: false });
      await put(handleKey('short'), { block: { [cidr]: 2 }, deleted: false });
      await put(affinityKey('node1', prefix('10.50.0.240/28')), { state: 'pending', deleted: false });
      // Its workload is gone.
      await allocator.assign({ ...handle('node1', 'gone'), attributes: { pod: 'gone' } });
      // Its Node is gone, without the command that gives back.
      await store.delete(resourceKey('Node', 'node2'));

      const file = join(scratch, 'report.json');
      const found = await tortie('ipam', 'check', '-o', file);
      expect(found).toMatchObject({ exit: 1, stderr: '' });
      expect(found.stdout).toContain(`handle dead counts 1 addresses in ${cidr}, where it holds 0`);
      expect(found.stdout).toContain(`handle short counts 2 addresses in ${cidr}, where it holds 3`);
      expect(found.stdout).toContain('node node2 has affinities, but there is no such Node');

      const mended = await tortie('ipam', 'release', `--from-report=${file}`);
      expect(mended).toMatchObject({ exit: 0, stderr: '' });
      expect(mended.stdout).toContain(`Successfully mended the count of handle dead in ${cidr}`);
      expect(await tortie('ipam', 'check')).toMatchObject({ exit: 0 });
      expect((await allocator.holder(address))?.handle_id).toBe('right');
      expect(await allocator.releaseByHandle('short')).toHaveLength(3);
      // A second time it finds nothing as it was reported.
      expect(await tortie('ipam', 'release', `--from-report=${file}`)).toMatchObject({ exit: 0, stdout: '' });
    });

    test('a count that changed since the report is left alone', async () => {
      const cidr = '10.50.0.16/28';
      await allocator.assign({ ...handle('node1', 'h'), address: ipv4('10.50.0.17') });
      const miscount = { handle: 'h', cidr, counts: 2, holds: 1 };
      expect(await allocator.mendCount(miscount)).toBe(false);
      expect(await allocator.mendCount({ ...miscount, counts: 1, holds: 0 })).toBe(false);
      expect(JSON.parse((await store.get(handleKey('h')))?.value ?? '').block).toEqual({ [cidr]: 1 });
    });
  });
}
