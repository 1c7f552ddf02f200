/** Handles count, block by block, the addresses that one owner holds, so that a release need not search. */
import type { IpamHandle } from '../model/resources.ts';

export const EMPTY_HANDLE: IpamHandle = Object.freeze({ block: Object.freeze({}), deleted: false });

export function incremented(handle: IpamHandle, cidr: string, count: number): IpamHandle {
  return { ...handle, block: { ...handle.block, [cidr]: (handle.block[cidr] ?? 0) + count } };
}

/** undefined where nothing is left to count: the handle is to be deleted. */
export function decremented(handle: IpamHandle, cidr: string, count: number): IpamHandle | undefined {
  const { [cidr]: old = 0, ...others } = handle.block;
  const block = old > count ? { ...handle.block, [cidr]: old - count } : others;
  return Object.keys(block).length === 0 ? undefined : { ...handle, block };
}
