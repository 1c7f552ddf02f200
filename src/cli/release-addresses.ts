/**
 * What IPAM holds for a resource that is about to be deleted, given back first: a pool is disabled, so that nobody
 * takes from it meanwhile, and its blocks lose their owners (addresses in use stay in use); a node gives back its
 * workloads' addresses, its tunnel address and its blocks.
 */
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/logger.ts';
import { systemRandom } from '../base/random.ts';
import { parsePrefix, prefixesOverlap } from '../ip/prefix.ts';
import { IPAM_BLOCKS, IPAM_HANDLES, IPAM_HOSTS, parseKey } from '../model/keys.ts';
import { isPlainObject, rewriteStored } from '../model/rewrite.ts';
import { decodeStored } from '../model/stored.ts';
import type { Datastore } from '../store/datastore.ts';
import type { ResourceClient, ResourceId } from './resource-client.ts';
import { rewriteWithRetries } from './rewrite-resource.ts';

export async function releaseAddressesOf(
  client: ResourceClient,
  store: Datastore,
  id: ResourceId,
): Promise<void> {
  if (id.kind === 'IPPool') await releasePool(client, store, id);
  if (id.kind === 'Node' && (await holdsAnything(store))) await (await allocator(store)).releaseNode(id.name);
}

/** Loaded only where there is something to release. */
async function allocator(store: Datastore) {
  const { createAddressAllocator } = await import('../control/address-allocator.ts');
  return createAddressAllocator({ store, clock: systemClock, random: systemRandom, logger: silentLogger });
}

async function holdsAnything(store: Datastore): Promise<boolean> {
  for (const prefix of [IPAM_BLOCKS, IPAM_HOSTS, IPAM_HANDLES])
    if ((await store.list(prefix)).entries.length) return true;
  return false;
}

async function releasePool(client: ResourceClient, store: Datastore, id: ResourceId): Promise<void> {
  const stored = decodeStored('IPPool', (await client.getEntry(id)).value);
  // A value that is no pool, and an IPv6 one, has no blocks of ours.
  const pool = stored.ok ? parsePrefix(stored.resource.spec.cidr) : undefined;
  if (!pool) return;
  const { entries } = await store.list(IPAM_BLOCKS);
  const inPool = entries.some(({ key }) => {
    const parsed = parseKey(key);
    return parsed?.type === 'block' && prefixesOverlap(parsed.block, pool);
  });
  if (!inPool) return;
  await rewriteWithRetries(client, id, (entry) => ({
    text: rewriteStored(entry.value, (object) => ({
      ...object,
      spec: { ...(isPlainObject(object.spec) ? object.spec : {}), disabled: true },
    })),
  }));
  await (await allocator(store)).releasePoolAffinities(pool);
}
