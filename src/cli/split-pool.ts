/**
 * Splitting a pool. The smaller pools are written first and the large one is deleted last: in between both say the
 * same of every address, so that no route, no tunnel address and no allocation changes. Blocks know nothing of pools.
 */
import { FailedError, InvalidError } from '../base/errors.ts';
import { formatPrefix, parsePrefix, prefixOf } from '../ip/prefix.ts';
import { encodeStored } from '../model/encode.ts';
import { resourceKey } from '../model/keys.ts';
import type { IPPool } from '../model/resources.ts';
import type { Datastore } from '../store/datastore.ts';

/** Gives the names of the new pools. */
export async function splitPool(store: Datastore, pool: IPPool, parts: number): Promise<string[]> {
  const children = childrenOf(pool, parts);
  const key = resourceKey('IPPool', pool.metadata.name);
  const before = await store.get(key);
  if (!before)
    throw new FailedError('ERR_NO_POOL', `the IP pool ${pool.metadata.name} was deleted meanwhile`);
  const written: string[] = [];
  try {
    for (const child of children) {
      const childKey = resourceKey('IPPool', child.metadata.name);
      await store.create(childKey, encodeStored(child));
      written.push(childKey);
    }
    await store.delete(key, before.revision);
  } catch (error) {
    for (const childKey of written) await store.delete(childKey);
    throw error;
  }
  return children.map(({ metadata }) => metadata.name);
}

function childrenOf(pool: IPPool, parts: number): IPPool[] {
  const prefix = parsePrefix(pool.spec.cidr);
  const bits = Math.log2(parts);
  if (!prefix || !Number.isInteger(bits) || parts < 2)
    throw new InvalidError('ERR_POOL_SPLIT', `a pool is split into 2, 4, 8, … parts, not ${parts}`);
  const length = prefix.length + bits;
  if (length > pool.spec.blockSize)
    throw new InvalidError(
      'ERR_POOL_SPLIT',
      `${pool.spec.cidr} cannot be split into ${parts}: a part must hold a block of /${pool.spec.blockSize}`,
    );
  return Array.from({ length: parts }, (_, index) => ({
    ...pool,
    metadata: {
      name: `split-${pool.metadata.name}-${index}`,
      ...(pool.metadata.labels && { labels: pool.metadata.labels }),
      uid: globalThis.crypto.randomUUID(),
      creationTimestamp: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    },
    spec: {
      ...pool.spec,
      cidr: formatPrefix(prefixOf(prefix.address + index * 2 ** (32 - length), length)),
    },
  }));
}
