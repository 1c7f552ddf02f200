/** ICMP for IPv4 (RFC 792; the MTU in "fragmentation needed" is RFC 1191 §4). `offset` is the type byte. */
import { readU16 } from './bytes.ts';
import { sumBytes } from './checksum.ts';

export const ICMP_HEADER_BYTES = 8;
export const ICMP_OFF_TYPE = 0;
export const ICMP_OFF_CODE = 1;
export const ICMP_OFF_CHECKSUM = 2;
/** The second word of the header: unused, an identifier and sequence number, or a next-hop MTU in its lower half. */
export const ICMP_OFF_REST = 4;
export const ICMP_OFF_ID = 4;
export const ICMP_OFF_SEQUENCE = 6;
export const ICMP_OFF_NEXT_HOP_MTU = 6;
/** What an error quotes of the packet it is about: its IP header and at least 8 bytes more (RFC 792). */
export const ICMP_OFF_QUOTE = 8;
export const ICMP_MIN_QUOTED_PAYLOAD_BYTES = 8;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_REDIRECT = 5;
export const ICMP_ECHO = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;
export const ICMP_TIMESTAMP = 13;

/** Codes of ICMP_UNREACHABLE. */
export const UNREACHABLE_NET = 0;
export const UNREACHABLE_HOST = 1;
export const UNREACHABLE_PROTOCOL = 2;
export const UNREACHABLE_PORT = 3;
export const UNREACHABLE_FRAGMENTATION_NEEDED = 4;
export const UNREACHABLE_SOURCE_ROUTE_FAILED = 5;
export const UNREACHABLE_ADMINISTRATIVELY = 13;

/** Queries and their answers; all others, unknown types too, are taken for errors (RFC 1122 §3.2.2, on the safe side). */
const QUERY_TYPES: ReadonlySet<number> = new Set([0, 8, 9, 10, 13, 14, 15, 16, 17, 18]);

export function icmpIsError(type: number): boolean {
  return !QUERY_TYPES.has(type);
}

/** Whether `length` bytes are an ICMP message with a right checksum. */
export function checkIcmpv4(view: Uint8Array, offset: number, length: number): boolean {
  return length >= ICMP_HEADER_BYTES && sumBytes(view, offset, length, 0) === 0xffff;
}

export function icmpType(view: Uint8Array, offset: number): number {
  return view[offset + ICMP_OFF_TYPE]!;
}

export function icmpCode(view: Uint8Array, offset: number): number {
  return view[offset + ICMP_OFF_CODE]!;
}

/** RFC 1191 §4; 0 from routers older than that. */
export function icmpNextHopMtu(view: Uint8Array, offset: number): number {
  return readU16(view, offset + ICMP_OFF_NEXT_HOP_MTU);
}
