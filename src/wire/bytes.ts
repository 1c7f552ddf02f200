/**
 * Theory of operation of wire/: bytes <-> fields, at offsets, and nothing else.
 *
 * Every reader and writer takes `(view, offset)` with offset = start of the header in question, so a packet
 * is never copied or sliced to be looked at (a `subarray` per packet costs about 130 ns and 44 bytes of heap).
 * A `check…` function looks at the lengths once and returns 0 or a small number that says what is wrong;
 * after it the accessors read without further questions. Addresses are unsigned 32-bit integers in host
 * order. No function here throws for what a packet holds, allocates (but for pretty-print, pcapng and
 * rtnetlink, which are not on the packets' way), or does input or output.
 *
 *   bytes  checksum            the two primitives that everything else is made of
 *   virtio-net-header          what TUN and packet sockets put in front of a packet
 *   ethernet ipv4 tcp udp icmpv4   one header each: offsets, accessors, check, write
 *   rtnetlink                  the kernel's messages about links, addresses and routes
 *   pcapng  pretty-print       captures to files, and to people
 *
 * This file: big-endian (network order) integers in a byte array.
 */

export function readU16(view: Uint8Array, offset: number): number {
  return (view[offset]! << 8) | view[offset + 1]!;
}

/** Unsigned: the shift by 24 alone would make addresses from 128.0.0.0 on negative. */
export function readU32(view: Uint8Array, offset: number): number {
  return (
    ((view[offset]! << 24) | (view[offset + 1]! << 16) | (view[offset + 2]! << 8) | view[offset + 3]!) >>> 0
  );
}

/**
 * The same 32 bits, signed: for comparing and hashing in the packets' way. Such a value is always a small
 * integer; an unsigned one from 2^31 on may become an object on the heap.
 */
export function readI32(view: Uint8Array, offset: number): number {
  return (view[offset]! << 24) | (view[offset + 1]! << 16) | (view[offset + 2]! << 8) | view[offset + 3]!;
}

export function writeU16(view: Uint8Array, offset: number, value: number): void {
  view[offset] = value >>> 8;
  view[offset + 1] = value;
}

export function writeU32(view: Uint8Array, offset: number, value: number): void {
  view[offset] = value >>> 24;
  view[offset + 1] = value >>> 16;
  view[offset + 2] = value >>> 8;
  view[offset + 3] = value;
}
