/**
 * Who owns a block. Theory of operation: an owned block is two keys, the affinity below the node (what the node
 * lists) and the block itself (which names its owner), and the datastore changes one key at a time. So:
 *   1. claim: affinity `pending`, then create the block naming the node, then affinity `confirmed`;
 *   2. whoever finds somebody else's name in the block takes his own pending affinity away again;
 *   3. release: affinity `pendingDeletion`, then delete the block (or make it nobody's), then delete the affinity;
 *   4. whoever wants back a block that is being released, or finishes a claim that a dead process left, first
 *      writes the affinity `pending`, then rewrites the block: a racer that decided on the old revisions fails.
 * Every write is a compare-and-swap. The block decides: an affinity whose block names another node is stale.
 */
import type { Prefix } from '../ip/prefix.ts';
import { isEmpty, newBlock, rewritten, withoutAffinity } from '../ipam/block.ts';
import { blockOwner } from '../model/ipam-values.ts';
import type { IpamAffinity, IpamBlock } from '../model/resources.ts';
import { type IpamStore, isConflict, type Stored } from './ipam-store.ts';

/** Makes the node the block's owner; undefined where another has it. */
export function claimBlock(
  ipam: IpamStore,
  node: string,
  block: Prefix,
): Promise<Stored<IpamBlock> | undefined> {
  return ipam.retry(`claiming a block for ${node}`, async () => {
    const affinity = await ipam.affinity(node, block);
    if (affinity) return finishClaim(ipam, node, block, affinity);
    const { revision } = await ipam.createAffinity(node, block, 'pending');
    const pending = { value: { state: 'pending', deleted: false } as const, revision };
    return confirmed(ipam, node, block, pending);
  });
}

/** The block behind an affinity that is there, its claim finished where it was not; undefined where it is stale. */
export async function ownBlock(
  ipam: IpamStore,
  node: string,
  block: Prefix,
): Promise<Stored<IpamBlock> | undefined> {
  if (!(await ipam.affinity(node, block))) return undefined;
  // Begun, it is a claim like any other: a release meanwhile may have taken the affinity of a block just made.
  return claimBlock(ipam, node, block);
}

async function finishClaim(
  ipam: IpamStore,
  node: string,
  block: Prefix,
  affinity: Stored<IpamAffinity>,
): Promise<Stored<IpamBlock> | undefined> {
  const stored = await ipam.block(block);
  if (stored && blockOwner(stored.value) === node && affinity.value.state === 'confirmed') return stored;
  return confirmed(ipam, node, block, await ipam.setAffinity(node, block, affinity, 'pending'));
}

/** Steps 2 to 4 of a claim, from an affinity that we just wrote as pending. */
async function confirmed(
  ipam: IpamStore,
  node: string,
  block: Prefix,
  pending: Stored<IpamAffinity>,
): Promise<Stored<IpamBlock> | undefined> {
  const found = await ipam.block(block);
  if (found && blockOwner(found.value) !== node) {
    await ipam.dropAffinity(node, block, pending.revision);
    return undefined;
  }
  const stored = found
    ? await ipam.updateBlock(block, rewritten(found.value), found.revision)
    : await ipam.createBlock(block, newBlock(block, node, ipam.clock.wallMs()));
  await ipam.setAffinity(node, block, pending, 'confirmed');
  return stored;
}

/** Ends the node's ownership: of any block, or only of one that nobody uses. */
export function releaseBlock(
  ipam: IpamStore,
  node: string,
  block: Prefix,
  which: 'empty' | 'all',
): Promise<void> {
  return ipam.retry(`releasing a block of ${node}`, async () => {
    const affinity = await ipam.affinity(node, block);
    if (!affinity) return;
    const stored = await ipam.block(block);
    const inUse = stored && blockOwner(stored.value) === node && !isEmpty(stored.value);
    if (inUse && which === 'empty') return;
    const marked = await ipam.setAffinity(node, block, affinity, 'pendingDeletion');
    if (await disowned(ipam, node, block, marked, which))
      await ipam.dropAffinity(node, block, marked.revision);
  });
}

/**
 * Makes affinity and block agree where a process died between the two: a claim is finished, a release too unless the
 * block is in use by now, an affinity to another's block or to none is dropped.
 */
export async function settleBlock(ipam: IpamStore, node: string, block: Prefix): Promise<void> {
  const affinity = await ipam.affinity(node, block);
  const stored = await ipam.block(block);
  const isOwn = stored !== undefined && blockOwner(stored.value) === node;
  if (!affinity) {
    if (isOwn) await claimBlock(ipam, node, block);
  } else if (!isOwn) await ipam.dropAffinity(node, block, affinity.revision);
  else if (affinity.value.state === 'pendingDeletion' && isEmpty(stored.value))
    await releaseBlock(ipam, node, block, 'empty');
  else if (affinity.value.state !== 'confirmed') await claimBlock(ipam, node, block);
}

/** Takes the owner out of a block whose affinity we marked; false where the release is off. */
function disowned(
  ipam: IpamStore,
  node: string,
  block: Prefix,
  marked: Stored<IpamAffinity>,
  which: 'empty' | 'all',
): Promise<boolean> {
  return ipam.retry(`emptying a block of ${node}`, async () => {
    const stored = await ipam.block(block);
    if (!stored || blockOwner(stored.value) !== node) return true;
    // The order matters: whoever revives the claim writes the affinity before the block.
    const now = await ipam.affinity(node, block);
    if (now?.revision !== marked.revision) return false;
    if (isEmpty(stored.value)) await ipam.deleteBlock(block, stored.revision);
    else if (which === 'all') await ipam.updateBlock(block, withoutAffinity(stored.value), stored.revision);
    else {
      await restored(ipam, node, block, marked);
      return false;
    }
    return true;
  });
}

/** An address was given from the block after we had seen it empty. */
async function restored(
  ipam: IpamStore,
  node: string,
  block: Prefix,
  marked: Stored<IpamAffinity>,
): Promise<void> {
  try {
    await ipam.setAffinity(node, block, marked, 'confirmed');
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}
