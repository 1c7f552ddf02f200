/** The Ethernet II header, as packet sockets and captures see it. */
import { readU16, writeU16 } from './bytes.ts';

export const ETHERNET_HEADER_BYTES = 14;
export const ETHERNET_OFF_DESTINATION = 0;
export const ETHERNET_OFF_SOURCE = 6;
export const ETHERNET_OFF_TYPE = 12;
export const MAC_BYTES = 6;

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_IPV6 = 0x86dd;

export function etherType(view: Uint8Array, offset: number): number {
  return readU16(view, offset + ETHERNET_OFF_TYPE);
}

export function formatMac(view: Uint8Array, offset: number): string {
  const octets: string[] = [];
  for (let i = 0; i < MAC_BYTES; i++) octets.push((view[offset + i] ?? 0).toString(16).padStart(2, '0'));
  return octets.join(':');
}

/** Writes the header; both addresses are copied from `macs` (destination, then source: 12 bytes at `macsOffset`). */
export function writeEthernetHeader(
  view: Uint8Array,
  offset: number,
  macs: Uint8Array,
  macsOffset: number,
  type: number,
): void {
  for (let i = 0; i < 2 * MAC_BYTES; i++) view[offset + i] = macs[macsOffset + i]!;
  writeU16(view, offset + ETHERNET_OFF_TYPE, type);
}
