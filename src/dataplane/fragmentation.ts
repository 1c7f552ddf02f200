/**
 * Fragments of an inner packet that is larger than the path takes and may be fragmented (RFC 791 §3.2), as
 * header blobs and payload by reference: nothing of the payload is copied.
 */
import { writeU16 } from '../wire/bytes.ts';
import {
  IPV4_DF,
  IPV4_FRAGMENT_OFFSET_MASK,
  IPV4_MAX_HEADER_BYTES,
  IPV4_MF,
  IPV4_MIN_HEADER_BYTES,
  IPV4_OFF_FRAGMENT,
  IPV4_OFF_TOTAL_LENGTH,
  ipv4Fragment,
  ipv4HeaderBytes,
  ipv4TotalLength,
  writeIpv4Checksum,
} from '../wire/ipv4.ts';
import type { PacketMemory } from './ports.ts';

const OUTER_ROOM_BYTES = 32;
const BLOB_BYTES = OUTER_ROOM_BYTES + IPV4_MAX_HEADER_BYTES + 4;
const OPTION_END = 0;
const OPTION_NOP = 1;
/** RFC 791 §3.1: options with this bit are copied into all fragments. */
const OPTION_COPIED = 0x80;

export class Fragmentation {
  readonly #capacity: number;
  readonly #blobs: number;
  #used = 0;
  /** Of the fragment that `prepare` made last. */
  header = 0;
  headerBytes = 0;
  payload = 0;
  payloadBytes = 0;

  /** `capacity`: fragments between two `clear`s. */
  constructor(memory: PacketMemory, capacity: number) {
    this.#capacity = capacity;
    this.#blobs = memory.allocate(capacity * BLOB_BYTES, 32);
  }

  hasRoom(fragments: number): boolean {
    return this.#used + fragments <= this.#capacity;
  }

  /** The fragments were sent: their blobs are free. */
  clear(): void {
    this.#used = 0;
  }

  /** How many fragments of at most `mtu` bytes the packet makes; 0 where not even 8 bytes of payload fit. */
  countFragments(view: Uint8Array, packet: number, mtu: number): number {
    const payload = payloadPerFragment(view, packet, mtu);
    if (payload <= 0) return 0;
    return Math.ceil((ipv4TotalLength(view, packet) - ipv4HeaderBytes(view, packet)) / payload);
  }

  /** Writes fragment `index`'s header, with `outerBytes` of room before it, and says where that and the payload lie. */
  prepare(view: Uint8Array, packet: number, mtu: number, index: number, outerBytes: number): void {
    const blob = this.#blobs + this.#used++ * BLOB_BYTES;
    const header = blob + outerBytes;
    const headerBytes = ipv4HeaderBytes(view, packet);
    const payload = payloadPerFragment(view, packet, mtu);
    const start = index * payload;
    const rest = ipv4TotalLength(view, packet) - headerBytes - start;
    const bytes = Math.min(payload, rest);
    view.copyWithin(header, packet, packet + headerBytes);
    if (index > 0) blankUncopiedOptions(view, header, headerBytes);
    writeU16(view, header + IPV4_OFF_TOTAL_LENGTH, headerBytes + bytes);
    const word = ipv4Fragment(view, packet);
    const offset = (word & IPV4_FRAGMENT_OFFSET_MASK) + (start >>> 3);
    // A middle fragment stays one: MF of the original holds for its last piece too.
    const more = bytes < rest ? IPV4_MF : word & IPV4_MF;
    writeU16(view, header + IPV4_OFF_FRAGMENT, (word & IPV4_DF) | more | offset);
    writeIpv4Checksum(view, header);
    this.header = header;
    this.headerBytes = headerBytes;
    this.payload = packet + headerBytes + start;
    this.payloadBytes = bytes;
  }
}

/** Payload of all fragments but the last: a multiple of 8, the unit of the fragment offset. */
function payloadPerFragment(view: Uint8Array, packet: number, mtu: number): number {
  return (mtu - ipv4HeaderBytes(view, packet)) & ~7;
}

/** Options that belong to the first fragment only become no-operations, so that the header keeps its length. */
function blankUncopiedOptions(view: Uint8Array, header: number, headerBytes: number): void {
  let at = header + IPV4_MIN_HEADER_BYTES;
  const end = header + headerBytes;
  while (at < end) {
    const type = view[at]!;
    if (type === OPTION_END) return;
    const length = type === OPTION_NOP ? 1 : Math.max(2, view[at + 1]!);
    if ((type & OPTION_COPIED) === 0) view.fill(OPTION_NOP, at, Math.min(at + length, end));
    at += length;
  }
}
