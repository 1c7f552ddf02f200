/** Giving back: addresses of one block, a node's or a pool's blocks, all that a deleted node held. */
import type { Ipv4 } from '../ip/ipv4.ts';
import { type Prefix, prefixCovers } from '../ip/prefix.ts';
import { isEmpty, type Released, releaseFromBlock } from '../ipam/block.ts';
import type { IpamAttributes } from '../model/resources.ts';
import { releaseBlock } from './block-claims.ts';
import { uncount } from './handle-counts.ts';
import type { IpamStore } from './ipam-store.ts';

/** Gives back every address of a block for which `which` holds. */
export async function releaseFrom(
  ipam: IpamStore,
  block: Prefix,
  which: (address: Ipv4, attributes: IpamAttributes) => boolean,
): Promise<readonly Ipv4[]> {
  const released = await ipam.retry('releasing an address', async () => {
    const stored = await ipam.block(block);
    const after = stored && releaseFromBlock(stored.value, which);
    if (!stored || !after) return undefined;
    // A block that is nobody's lives only for its addresses.
    if (after.block.affinity === null && isEmpty(after.block)) await ipam.deleteBlock(block, stored.revision);
    else await ipam.updateBlock(block, after.block, stored.revision);
    return after;
  });
  if (released) await uncountAll(ipam, released);
  return released?.addresses ?? [];
}

async function uncountAll(ipam: IpamStore, { block, handles }: Released): Promise<void> {
  for (const [handle, count] of handles) await uncount(ipam, handle, block.cidr, count);
}

export async function releaseAffinities(
  ipam: IpamStore,
  node: string,
  which: 'empty' | 'all',
): Promise<void> {
  for (const { block } of await ipam.affinities(node)) await releaseBlock(ipam, node, block, which);
}

export async function releasePoolAffinities(ipam: IpamStore, pool: Prefix): Promise<void> {
  for (const { node, block } of await ipam.affinities())
    if (prefixCovers(pool, block)) await releaseBlock(ipam, node, block, 'all');
}

export async function releaseNode(ipam: IpamStore, node: string): Promise<void> {
  for (const { prefix, value } of await ipam.blocks()) {
    const mine = (attributes: IpamAttributes) => attributes.secondary?.node === node;
    if (value.attributes.some(mine))
      await releaseFrom(ipam, prefix, (_address, attributes) => mine(attributes));
  }
  await releaseAffinities(ipam, node, 'all');
}
