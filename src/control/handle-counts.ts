/**
 * Handles count the addresses of their owner, block by block, in a key of their own. The count goes first and the
 * block second, so a process that dies in between leaves a count too many, never an address that no handle knows.
 */
import { parsePrefix } from '../ip/prefix.ts';
import type { Miscount } from '../ipam/check.ts';
import { counting, decremented, EMPTY_HANDLE, incremented } from '../ipam/handle.ts';
import { allocationsOf } from '../model/ipam-values.ts';
import { type IpamStore, isConflict } from './ipam-store.ts';

/** Counts first and takes the count back where the write of the block met a conflict. */
export async function counted(
  ipam: IpamStore,
  handle: string,
  cidr: string,
  count: number,
  write: () => Promise<unknown>,
): Promise<void> {
  await ipam.changeHandle(handle, (old) => incremented(old ?? EMPTY_HANDLE, cidr, count), {
    probablyNew: true,
  });
  try {
    await write();
  } catch (error) {
    // Where the datastore went away nobody knows whether the block was written: better a count too many.
    if (isConflict(error)) await uncount(ipam, handle, cidr, count);
    throw error;
  }
}

export function uncount(ipam: IpamStore, handle: string, cidr: string, count: number): Promise<void> {
  return ipam.changeHandle(handle, (old) => old && decremented(old, cidr, count));
}

/**
 * Writes the count that is right, unless handle or block changed since somebody looked: an allocation under way may
 * have counted and not written its block yet, and is not to be made to forget it.
 */
export async function mendCount(
  ipam: IpamStore,
  { handle, cidr, counts, holds }: Miscount,
): Promise<boolean> {
  const block = parsePrefix(cidr);
  const stored = block && (await ipam.block(block));
  const held = stored ? allocationsOf(stored.value) : [];
  if (held.filter(({ attributes }) => attributes.handle_id === handle).length !== holds) return false;
  if (((await ipam.handle(handle))?.value.block[cidr] ?? 0) !== counts) return false;
  let mended = false;
  await ipam.changeHandle(handle, (old) => {
    mended = (old?.block[cidr] ?? 0) === counts;
    return mended ? counting(old ?? EMPTY_HANDLE, cidr, holds) : old;
  });
  return mended;
}
