/** The UDP header (RFC 768). `offset` is its first byte. */
import { readU16, writeU16 } from './bytes.ts';

export const UDP_HEADER_BYTES = 8;
export const UDP_OFF_SOURCE_PORT = 0;
export const UDP_OFF_DESTINATION_PORT = 2;
export const UDP_OFF_LENGTH = 4;
export const UDP_OFF_CHECKSUM = 6;

/** Whether `length` bytes hold the whole datagram that the length field names. */
export function checkUdp(view: Uint8Array, offset: number, length: number): boolean {
  if (length < UDP_HEADER_BYTES) return false;
  const datagramBytes = udpLength(view, offset);
  return datagramBytes >= UDP_HEADER_BYTES && datagramBytes <= length;
}

/** Header and data. */
export function udpLength(view: Uint8Array, offset: number): number {
  return readU16(view, offset + UDP_OFF_LENGTH);
}

/** 0: the sender computed none (RFC 768 allows that over IPv4). */
export function udpChecksum(view: Uint8Array, offset: number): number {
  return readU16(view, offset + UDP_OFF_CHECKSUM);
}

/** The header of a datagram; the checksum is left 0, "none", as Linux FOU sends it over IPv4 by default. */
export function writeUdpHeader(
  view: Uint8Array,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  length: number,
): void {
  writeU16(view, offset + UDP_OFF_SOURCE_PORT, sourcePort);
  writeU16(view, offset + UDP_OFF_DESTINATION_PORT, destinationPort);
  writeU16(view, offset + UDP_OFF_LENGTH, length);
  writeU16(view, offset + UDP_OFF_CHECKSUM, 0);
}
