/** The TCP header (RFC 9293 §3.1). `offset` is its first byte. Call `checkTcp` first; the accessors trust it. */
import { readU16, readU32 } from './bytes.ts';

export const TCP_MIN_HEADER_BYTES = 20;
export const TCP_OFF_SOURCE_PORT = 0;
export const TCP_OFF_DESTINATION_PORT = 2;
export const TCP_OFF_SEQUENCE = 4;
export const TCP_OFF_ACKNOWLEDGEMENT = 8;
export const TCP_OFF_DATA_OFFSET = 12;
export const TCP_OFF_FLAGS = 13;
export const TCP_OFF_WINDOW = 14;
export const TCP_OFF_CHECKSUM = 16;
export const TCP_OFF_OPTIONS = 20;

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** Whether `length` bytes hold a whole TCP header, options included. */
export function checkTcp(view: Uint8Array, offset: number, length: number): boolean {
  if (length < TCP_MIN_HEADER_BYTES) return false;
  const headerBytes = tcpHeaderBytes(view, offset);
  return headerBytes >= TCP_MIN_HEADER_BYTES && headerBytes <= length;
}

export function tcpHeaderBytes(view: Uint8Array, offset: number): number {
  return (view[offset + TCP_OFF_DATA_OFFSET]! >>> 4) << 2;
}

export function tcpFlags(view: Uint8Array, offset: number): number {
  return view[offset + TCP_OFF_FLAGS]!;
}

export function tcpSequence(view: Uint8Array, offset: number): number {
  return readU32(view, offset + TCP_OFF_SEQUENCE);
}

export function tcpAcknowledgement(view: Uint8Array, offset: number): number {
  return readU32(view, offset + TCP_OFF_ACKNOWLEDGEMENT);
}

export function tcpWindow(view: Uint8Array, offset: number): number {
  return readU16(view, offset + TCP_OFF_WINDOW);
}
