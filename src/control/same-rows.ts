/** Whether two contributions, or rows of them, say the same: a rebuild compares some hundred thousand. */
import type { ForwardingEntry, Peer, SourceEntry } from '../fib/forwarding-config.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';
import type { Contribution } from './contributions.ts';
import { isSameRoute } from './ports.ts';

export function isSameContribution(a: Contribution, b: Contribution): boolean {
  return (
    isSameList(a.entries, b.entries, isSameEntry) &&
    isSameList(a.sources, b.sources, isSameSource) &&
    isSameList(a.routes, b.routes, isSameRoute) &&
    isSameList(a.peers, b.peers, isSamePeer) &&
    isSameList(a.sysctls, b.sysctls, ([path, value], other) => path === other[0] && value === other[1]) &&
    isSameList(a.warnings, b.warnings, Object.is)
  );
}

export function isSameEntry(a: ForwardingEntry, b: ForwardingEntry): boolean {
  return isSamePrefix(a.prefix, b.prefix) && isSameChoice(a.nextHops, b.nextHops);
}

export function isSameSource(a: SourceEntry, b: SourceEntry): boolean {
  return isSamePrefix(a.prefix, b.prefix) && isSameChoice(a.owners, b.owners);
}

export function isSamePeer(a: Peer, b: Peer): boolean {
  return a.address === b.address && a.transport === b.transport && a.udpPort === b.udpPort && a.mtu === b.mtu;
}

function isSamePrefix(a: Prefix, b: Prefix): boolean {
  return a.address === b.address && a.length === b.length;
}

function isSameChoice(a: readonly Ipv4[] | string, b: readonly Ipv4[] | string): boolean {
  if (a === b) return true;
  return typeof a !== 'string' && typeof b !== 'string' && isSameList(a, b, Object.is);
}

function isSameList<T>(a: readonly T[], b: readonly T[], same: (a: T, b: T) => boolean): boolean {
  return a === b || (a.length === b.length && a.every((row, i) => same(row, b[i]!)));
}
