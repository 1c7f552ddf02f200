/** What is known of every outer packet, as conditions of firewalls ask for it. */
import type { Ipv4 } from '../ip/ipv4.ts';
import { parsePrefix, prefixContains } from '../ip/prefix.ts';
import type { Certainty } from './firewall-walk.ts';

export type OuterDirection = 'outbound' | 'inbound';

/** This host's end of outer packets: the sources outbound, the destinations inbound; none where they are not known. */
export type OwnAddresses = Readonly<Record<OuterDirection, readonly Ipv4[]>>;
export const NOT_KNOWN: OwnAddresses = { outbound: [], inbound: [] };

/** Of which packets it is asked. */
export interface OuterPackets {
  readonly direction: OuterDirection;
  readonly tunnelDevice: string;
  readonly own: readonly Ipv4[];
}

/** Names of protocols in rules: protocol 4 is `ipencap` in /etc/protocols; others known by name are not ours. */
const PROTOCOL_IPIP = ['ipencap', '4'];
const ANY_PROTOCOL = ['all', '0', 'ip'];
const OTHER_PROTOCOLS =
  'tcp udp udplite icmp icmpv6 ipv6-icmp igmp esp ah comp sctp dccp gre vrrp ospf pim ipip'.split(' ');

export function isProtocol(text: string): Certainty {
  if (PROTOCOL_IPIP.includes(text) || ANY_PROTOCOL.includes(text)) return 'always';
  return /^\d+$/.test(text) || OTHER_PROTOCOLS.includes(text) ? 'never' : 'maybe';
}

/** Outer packets come and go by the underlay: not by workloads' interfaces, loopback, or the tunnel device. */
export function isInterface(name: string, tunnelDevice: string): Certainty {
  const others = ['lo', tunnelDevice];
  return name.startsWith('cali') || others.includes(name) ? 'never' : 'maybe';
}

/**
 * Felix's sets of addresses (felix/rules/rule_defs.go). That an outer packet is between Calico's hosts is what our
 * source checks and our table of peers see to; hosts are not in pools.
 */
export function isInSet(name: string, end: 'source' | 'destination', direction: OuterDirection): Certainty {
  const isOtherHost = (end === 'source') === (direction === 'inbound');
  if (name === 'cali40all-hosts-net') return isOtherHost ? 'always' : 'maybe';
  return name === 'cali40masq-ipam-pools' || name === 'cali40all-ipam-pools' ? 'never' : 'maybe';
}

/** `text`: an address or prefix. Loopback addresses are never on the wire; of the other host's address nothing is known. */
export function isIn(text: string, end: 'source' | 'destination', packets: OuterPackets): Certainty {
  if (text === '0.0.0.0/0') return 'always';
  if (text.startsWith('127.')) return 'never';
  const isOwn = (end === 'source') === (packets.direction === 'outbound');
  const range =
    isOwn && packets.own.length > 0 ? parsePrefix(text.includes('/') ? text : `${text}/32`) : undefined;
  if (!range) return 'maybe';
  const inside = packets.own.filter((address) => prefixContains(range, address));
  if (inside.length === 0) return 'never';
  return inside.length === packets.own.length ? 'always' : 'maybe';
}

/** Whether one end is an address of this host's: inbound the destination, outbound the source. */
export function isLocal(end: 'source' | 'destination', direction: OuterDirection): Certainty {
  return (end === 'source') === (direction === 'outbound') ? 'always' : 'maybe';
}

export function opposite(certainty: Certainty): Certainty {
  if (certainty === 'maybe') return certainty;
  return certainty === 'always' ? 'never' : 'always';
}

/** Whether one of several holds. */
export function anyOf(certainties: readonly Certainty[]): Certainty {
  if (certainties.includes('always')) return 'always';
  return certainties.every((certainty) => certainty === 'never') ? 'never' : 'maybe';
}
