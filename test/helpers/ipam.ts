/** Allocators over a datastore in memory, and what must hold of what they leave there. */
import type { Clock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { type AddressAllocator, createAddressAllocator } from '../../src/control/address-allocator.ts';
import { IpamStore } from '../../src/control/ipam-store.ts';
import { formatIpv4 } from '../../src/ip/ipv4.ts';
import { ipamProblems } from '../../src/ipam/check.ts';
import { allocationsOf, decodeBlock } from '../../src/model/ipam-values.ts';
import { resourceKey } from '../../src/model/keys.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { MemoryContent, MemoryStore } from './memory-store.ts';

/** A clock that stands still: pauses are turns of the event loop. */
const stillClock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 1_795_386_994_453,
  sleep: async () => {
    await Promise.resolve();
  },
};

/** Lets others go first for a while that the seed decides. */
function randomTurns(random: Random): () => Promise<void> {
  return async () => {
    for (let turns = random.below(12); turns > 0; turns--) await Promise.resolve();
  };
}

export function allocatorOn(store: Datastore, random: Random = seededRandom(1)): AddressAllocator {
  return createAddressAllocator({ store, clock: stillClock, random, logger: silentLogger });
}

export class IpamFixture {
  readonly content = new MemoryContent();

  /** Another process's allocator; its operations wait for `turn`, or are delayed at random by a seed. */
  allocator(turnOrSeed?: number | (() => Promise<void>)): AddressAllocator {
    const random = seededRandom(typeof turnOrSeed === 'number' ? turnOrSeed : 1);
    const turn = typeof turnOrSeed === 'number' ? randomTurns(random) : turnOrSeed;
    return allocatorOn(new MemoryStore(this.content, turn), random);
  }

  /** The layer below the allocator, for tests of single steps. */
  ipam(turn?: () => Promise<void>): IpamStore {
    const store = new MemoryStore(this.content, turn);
    return new IpamStore({ store, clock: stillClock, random: seededRandom(1), logger: silentLogger });
  }

  async remove(key: string): Promise<void> {
    await new MemoryStore(this.content).delete(key);
  }

  async put(key: string, value: string): Promise<void> {
    const store = new MemoryStore(this.content);
    const old = await store.get(key);
    await (old ? store.update(key, value, old.revision) : store.create(key, value));
  }

  pool(name: string, spec: object): Promise<void> {
    const value = { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata: { name }, spec };
    return this.put(resourceKey('IPPool', name), JSON.stringify(value));
  }

  async deletePool(name: string): Promise<void> {
    await new MemoryStore(this.content).delete(resourceKey('IPPool', name));
  }

  node(name: string, metadata: object = {}, bgp: object = { ipv4Address: '10.0.1.11/24' }): Promise<void> {
    const value = {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name, ...metadata },
      spec: { bgp },
    };
    return this.put(resourceKey('Node', name), JSON.stringify(value));
  }

  /** Every address that a block says is in use, with its handle. */
  allocated(): Map<string, string> {
    const found = new Map<string, string>();
    for (const [key, text] of this.content.values()) {
      if (!key.includes('/block/') || key.includes('/host/')) continue;
      const decoded = decodeBlock(text);
      if (!decoded.ok) throw new Error(`${key}: ${decoded.problem}`);
      for (const { address, attributes } of allocationsOf(decoded.value)) {
        if (found.has(formatIpv4(address))) throw new Error(`${formatIpv4(address)} is in two blocks`);
        found.set(formatIpv4(address), attributes.handle_id ?? '');
      }
    }
    return found;
  }

  /** What `ipam check` would say. */
  problems(): readonly string[] {
    return ipamProblems(this.content.values());
  }
}
