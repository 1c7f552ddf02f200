/**
 * Encapsulate or not: the rule of Calico's pools. Only the local node's prefix and the remote node's address
 * are compared; the remote prefix is never used, so two nodes may decide differently (`explain` shows it).
 */
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix, type InterfaceAddress, type Prefix, prefixContains, prefixOf } from '../ip/prefix.ts';
import type { EncapsulationMode } from '../model/resources.ts';

export interface Decision {
  readonly encapsulate: boolean;
  /** Why, in a form that fits behind "because". */
  readonly reason: string;
  /** Set where cross-subnet cannot work because the local prefix is a /32 or unknown. */
  readonly warning?: string;
}

export function decideEncapsulation(
  mode: EncapsulationMode,
  local: InterfaceAddress | null,
  remote: Ipv4,
): Decision {
  if (mode === 'Always') return { encapsulate: true, reason: 'the pool says Always' };
  if (mode === 'Never') return { encapsulate: false, reason: 'the pool says Never' };
  if (local === null || local.length === 32) {
    const what = local === null ? 'is unknown' : `is the /32 of ${formatIpv4(local.address)}`;
    return {
      encapsulate: true,
      reason: `the pool says CrossSubnet and this node's prefix ${what}`,
      warning: `this node's prefix ${what}: cross-subnet pools encapsulate to every node; give the Node resource a spec.bgp.ipv4Address with the subnet's length`,
    };
  }
  const subnet = prefixOf(local.address, local.length);
  const inside = prefixContains(subnet, remote);
  return {
    encapsulate: !inside,
    reason: `the pool says CrossSubnet and ${formatPrefix(subnet)} ${inside ? 'contains' : 'does not contain'} ${formatIpv4(remote)}`,
  };
}

/** The longest pool that holds the address. */
export function poolOf<P extends { readonly prefix: Prefix }>(
  pools: Iterable<P>,
  address: Ipv4,
): P | undefined {
  let best: P | undefined;
  for (const pool of pools) {
    if (prefixContains(pool.prefix, address) && (!best || pool.prefix.length > best.prefix.length))
      best = pool;
  }
  return best;
}
