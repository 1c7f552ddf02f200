/** Which pools a node may take an address from, and which addresses are kept out. */

import type { Ipv4 } from '../ip/ipv4.ts';
import { type Prefix, parseInterfaceAddress, parsePrefix, prefixContains, prefixOf } from '../ip/prefix.ts';
import type { IPPool, IPReservation, Node } from '../model/resources.ts';
import { selects } from '../model/selector.ts';
import type { Reserved } from './block.ts';

/** A pool as allocation sees it. */
export interface AllocationPool {
  readonly name: string;
  readonly prefix: Prefix;
  readonly blockLength: number;
}

export type Use = 'Workload' | 'Tunnel';

function allocationPool(pool: IPPool): AllocationPool | undefined {
  const prefix = parsePrefix(pool.spec.cidr);
  // IPv6 pools are other people's.
  return prefix && { name: pool.metadata.name, prefix, blockLength: pool.spec.blockSize };
}

/** The pools to take from, in the order of the listing: what Calico's administrator sees is what is tried first. */
export function poolsFor(pools: readonly IPPool[], node: Node, use: Use): AllocationPool[] {
  const labels = node.metadata.labels ?? {};
  return pools
    .filter(({ spec }) => !spec.disabled && spec.assignmentMode === 'Automatic')
    .filter(({ spec }) => spec.allowedUses.includes(use))
    .filter(({ spec }) => use !== 'Tunnel' || spec.ipipMode !== 'Never')
    .filter(({ spec }) => selects(spec.nodeSelector, labels))
    .flatMap((pool) => allocationPool(pool) ?? []);
}

/** Pools asked for by name, which overrides node selectors and assignmentMode; undefined in place of each that is not to be used. */
export function poolsByName(
  pools: readonly IPPool[],
  names: readonly string[],
  use: Use,
): (AllocationPool | undefined)[] {
  return names.map((name) => {
    const pool = pools.find(({ metadata }) => metadata.name === name);
    return pool && !pool.spec.disabled && pool.spec.allowedUses.includes(use)
      ? allocationPool(pool)
      : undefined;
  });
}

/** The enabled pool that holds an address. */
export function poolOf(pools: readonly IPPool[], address: Ipv4): AllocationPool | undefined {
  return pools
    .filter(({ spec }) => !spec.disabled)
    .flatMap((pool) => allocationPool(pool) ?? [])
    .find(({ prefix }) => prefixContains(prefix, address));
}

/** Addresses that IPReservations keep from being handed out; asking for one by name is still allowed, as in Calico. */
export function reservedBy(reservations: readonly IPReservation[]): Reserved {
  const prefixes = reservations
    .flatMap(({ spec }) => spec.reservedCIDRs ?? [])
    .flatMap((cidr) => {
      const parsed = parseInterfaceAddress(cidr);
      return parsed ? [prefixOf(parsed.address, parsed.length)] : [];
    });
  return (address) => prefixes.some((prefix) => prefixContains(prefix, address));
}
