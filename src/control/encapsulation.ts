/**
 * Encapsulate or not: the rule of Calico's pools. Only the local node's prefix and the remote node's address
 * are compared; the remote prefix is never used, so two nodes may decide differently (`explain` shows it).
 */
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import {
  formatPrefix,
  type InterfaceAddress,
  netmask,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../ip/prefix.ts';
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
  const encapsulate = isEncapsulated(mode, local, remote);
  if (mode !== 'CrossSubnet') return { encapsulate, reason: `the pool says ${mode}` };
  const warning = subnetWarning(local);
  if (warning !== undefined || local === null)
    return {
      encapsulate,
      reason: `the pool says CrossSubnet and this node's prefix ${prefixProblem(local)}`,
      ...(warning !== undefined && { warning }),
    };
  const subnet = prefixOf(local.address, local.length);
  return {
    encapsulate,
    reason: `the pool says CrossSubnet and ${formatPrefix(subnet)} ${encapsulate ? 'does not contain' : 'contains'} ${formatIpv4(remote)}`,
  };
}

/** The decision alone, for whoever has tens of thousands of them to make. */
export function isEncapsulated(
  mode: EncapsulationMode,
  local: InterfaceAddress | null,
  remote: Ipv4,
): boolean {
  if (mode !== 'CrossSubnet') return mode === 'Always';
  return (
    !isSubnetKnown(local) || (local.address & netmask(local.length)) !== (remote & netmask(local.length))
  );
}

/** A /32 says where the node is, but not who its neighbours are. */
function isSubnetKnown(local: InterfaceAddress | null): local is InterfaceAddress {
  return local !== null && local.length < 32;
}

function prefixProblem(local: InterfaceAddress | null): string {
  return local === null ? 'is unknown' : `is the /32 of ${formatIpv4(local.address)}`;
}

/** Why cross-subnet cannot work on this node; undefined where it can. */
export function subnetWarning(local: InterfaceAddress | null): string | undefined {
  return isSubnetKnown(local)
    ? undefined
    : `this node's prefix ${prefixProblem(local)}: cross-subnet pools encapsulate to every node; give the Node resource a spec.bgp.ipv4Address with the subnet's length`;
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
