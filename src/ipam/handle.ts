/** Handles count, block by block, the addresses that one owner holds, so that a release need not search. */
import type { IpamHandle } from '../model/resources.ts';

export const EMPTY_HANDLE: IpamHandle = Object.freeze({ block: Object.freeze({}), deleted: false });

export function incremented(handle: IpamHandle, cidr: string, count: number): IpamHandle {
  return { ...handle, block: { ...handle.block, [cidr]: (handle.block[cidr] ?? 0) + count } };
}

/** undefined where nothing is left to count: the handle is to be deleted. */
export function decremented(handle: IpamHandle, cidr: string, count: number): IpamHandle | undefined {
  return counting(handle, cidr, Math.max(0, (handle.block[cidr] ?? 0) - count));
}

/** The handle with that count; undefined where nothing is left to count. */
export function counting(handle: IpamHandle, cidr: string, count: number): IpamHandle | undefined {
  const { [cidr]: _old, ...others } = handle.block;
  const block = count > 0 ? { ...handle.block, [cidr]: count } : others;
  return Object.keys(block).length === 0 ? undefined : { ...handle, block };
}
