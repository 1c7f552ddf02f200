/**
 * The IPv4 header (RFC 791 §3.1): offsets, checked-once accessors, writing.
 * `offset` is always the first byte of the header. Call `checkIpv4` first; the accessors trust it.
 */
import { readU16, readU32, writeU16, writeU32 } from './bytes.ts';
import { checksum, fold, sumBytes, updateChecksum } from './checksum.ts';

export const IPV4_MIN_HEADER_BYTES = 20;
export const IPV4_MAX_HEADER_BYTES = 60;
export const IPV4_MAX_PACKET_BYTES = 65_535;
/** The first byte: version, and a header of five words. */
export const VERSION_4_WITHOUT_OPTIONS = 0x45;

export const IPV4_OFF_VERSION_IHL = 0;
export const IPV4_OFF_TOS = 1;
export const IPV4_OFF_TOTAL_LENGTH = 2;
export const IPV4_OFF_ID = 4;
export const IPV4_OFF_FRAGMENT = 6;
export const IPV4_OFF_TTL = 8;
export const IPV4_OFF_PROTOCOL = 9;
export const IPV4_OFF_CHECKSUM = 10;
export const IPV4_OFF_SOURCE = 12;
export const IPV4_OFF_DESTINATION = 16;

/** Flags and masks within the 16-bit word at IPV4_OFF_FRAGMENT. The offset counts units of 8 bytes. */
export const IPV4_DF = 0x4000;
export const IPV4_MF = 0x2000;
export const IPV4_FRAGMENT_OFFSET_MASK = 0x1fff;

export const PROTOCOL_ICMP = 1;
/** `ipencap` in /etc/protocols; the `ipip` there is 94 and something else. */
export const PROTOCOL_IPIP = 4;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

/** What `checkIpv4` found; 0 is a packet whose header can be trusted. */
export const IPV4_OK = 0;
export const IPV4_TRUNCATED_HEADER = 1;
export const IPV4_NOT_VERSION_4 = 2;
export const IPV4_BAD_HEADER_LENGTH = 3;
export const IPV4_BAD_TOTAL_LENGTH = 4;
export const IPV4_TRUNCATED = 5;
export const IPV4_BAD_CHECKSUM = 6;

/**
 * Whether `length` bytes at `offset` start with a whole IPv4 packet. Bytes after the packet's own total
 * length are allowed (Ethernet pads; RFC 2003 decapsulation trims): use ipv4TotalLength from here on.
 */
export function checkIpv4(view: Uint8Array, offset: number, length: number): number {
  if (length < IPV4_MIN_HEADER_BYTES) {
    return length > 0 && view[offset]! >>> 4 !== 4 ? IPV4_NOT_VERSION_4 : IPV4_TRUNCATED_HEADER;
  }
  const first = view[offset]!;
  if (first >>> 4 !== 4) return IPV4_NOT_VERSION_4;
  const headerBytes = (first & 15) << 2;
  if (headerBytes < IPV4_MIN_HEADER_BYTES) return IPV4_BAD_HEADER_LENGTH;
  if (headerBytes > length) return IPV4_TRUNCATED_HEADER;
  const totalLength = readU16(view, offset + IPV4_OFF_TOTAL_LENGTH);
  if (totalLength < headerBytes) return IPV4_BAD_TOTAL_LENGTH;
  if (totalLength > length) return IPV4_TRUNCATED;
  return sumBytes(view, offset, headerBytes, 0) === 0xffff ? IPV4_OK : IPV4_BAD_CHECKSUM;
}

/**
 * The quick answer to the same for what nearly all packets are: whole, with a header without options whose checksum is
 * right. In whole words, for the packets' way; where it is false, `checkIpv4` tells what the packet is.
 */
export function isPlainIpv4(words: DataView, offset: number, length: number): boolean {
  if (length < IPV4_MIN_HEADER_BYTES) return false;
  const start = words.getInt32(offset);
  const totalLength = start & 0xffff;
  if (start >>> 24 !== VERSION_4_WITHOUT_OPTIONS || totalLength > length) return false;
  return totalLength >= IPV4_MIN_HEADER_BYTES && plainHeaderSum(words, offset, start) === 0xffff;
}

/** `ipv4IsFragment` for the packets' way. */
export function isFragmentIn(words: DataView, offset: number): boolean {
  return (words.getInt16(offset + IPV4_OFF_FRAGMENT) & (IPV4_MF | IPV4_FRAGMENT_OFFSET_MASK)) !== 0;
}

/** The sum of a header of five words, the first of which is `start`. */
function plainHeaderSum(words: DataView, offset: number, start: number): number {
  const id = words.getInt32(offset + IPV4_OFF_ID);
  const ttl = words.getInt32(offset + IPV4_OFF_TTL);
  const source = words.getInt32(offset + IPV4_OFF_SOURCE);
  const destination = words.getInt32(offset + IPV4_OFF_DESTINATION);
  const high = (start >>> 16) + (id >>> 16) + (ttl >>> 16) + (source >>> 16) + (destination >>> 16);
  const low = (start & 0xffff) + (id & 0xffff) + (ttl & 0xffff) + (source & 0xffff) + (destination & 0xffff);
  return fold(high + low);
}

export function ipv4HeaderBytes(view: Uint8Array, offset: number): number {
  return (view[offset]! & 15) << 2;
}

export function ipv4Tos(view: Uint8Array, offset: number): number {
  return view[offset + IPV4_OFF_TOS]!;
}

export function ipv4TotalLength(view: Uint8Array, offset: number): number {
  return readU16(view, offset + IPV4_OFF_TOTAL_LENGTH);
}

export function ipv4Id(view: Uint8Array, offset: number): number {
  return readU16(view, offset + IPV4_OFF_ID);
}

/** The word of flags and fragment offset. */
export function ipv4Fragment(view: Uint8Array, offset: number): number {
  return readU16(view, offset + IPV4_OFF_FRAGMENT);
}

export function ipv4DontFragment(view: Uint8Array, offset: number): boolean {
  return (view[offset + IPV4_OFF_FRAGMENT]! & 0x40) !== 0;
}

/** First, middle or last piece of a fragmented packet. */
export function ipv4IsFragment(view: Uint8Array, offset: number): boolean {
  return (ipv4Fragment(view, offset) & (IPV4_MF | IPV4_FRAGMENT_OFFSET_MASK)) !== 0;
}

export function ipv4IsFirstFragmentOrWhole(view: Uint8Array, offset: number): boolean {
  return (ipv4Fragment(view, offset) & IPV4_FRAGMENT_OFFSET_MASK) === 0;
}

export function ipv4Ttl(view: Uint8Array, offset: number): number {
  return view[offset + IPV4_OFF_TTL]!;
}

export function ipv4Protocol(view: Uint8Array, offset: number): number {
  return view[offset + IPV4_OFF_PROTOCOL]!;
}

export function ipv4Checksum(view: Uint8Array, offset: number): number {
  return readU16(view, offset + IPV4_OFF_CHECKSUM);
}

export function ipv4Source(view: Uint8Array, offset: number): number {
  return readU32(view, offset + IPV4_OFF_SOURCE);
}

export function ipv4Destination(view: Uint8Array, offset: number): number {
  return readU32(view, offset + IPV4_OFF_DESTINATION);
}

/** Class D, RFC 1112 §4. */
export function isMulticast(address: number): boolean {
  return address >>> 28 === 0xe;
}

/** Addresses that never name one single host to answer to: RFC 1122 §3.2.1.3 and §3.2.2. */
export function isUnicast(address: number): boolean {
  const firstOctet = address >>> 24;
  return firstOctet !== 0 && firstOctet !== 127 && firstOctet < 224;
}

/** Writes a header without options and its checksum: 20 bytes. `fragment` is the word of flags and offset. */
export function writeIpv4Header(
  view: Uint8Array,
  offset: number,
  tos: number,
  totalLength: number,
  id: number,
  fragment: number,
  ttl: number,
  protocol: number,
  source: number,
  destination: number,
): void {
  view[offset] = VERSION_4_WITHOUT_OPTIONS;
  view[offset + IPV4_OFF_TOS] = tos;
  writeU16(view, offset + IPV4_OFF_TOTAL_LENGTH, totalLength);
  writeU16(view, offset + IPV4_OFF_ID, id);
  writeU16(view, offset + IPV4_OFF_FRAGMENT, fragment);
  view[offset + IPV4_OFF_TTL] = ttl;
  view[offset + IPV4_OFF_PROTOCOL] = protocol;
  writeU32(view, offset + IPV4_OFF_SOURCE, source);
  writeU32(view, offset + IPV4_OFF_DESTINATION, destination);
  writeIpv4Checksum(view, offset);
}

/** The same in whole words, for the packets' way, with an id of 0: what stands outside of a tunneled packet. */
export function writeTunnelHeader(
  words: DataView,
  offset: number,
  tos: number,
  totalLength: number,
  dontFragment: number,
  ttlAndProtocol: number,
  source: number,
  destination: number,
): void {
  const start = (VERSION_4_WITHOUT_OPTIONS << 8) | tos;
  const sum =
    start +
    totalLength +
    dontFragment +
    ttlAndProtocol +
    ((source >>> 16) + (source & 0xffff)) +
    ((destination >>> 16) + (destination & 0xffff));
  words.setInt32(offset, (start << 16) | totalLength);
  words.setInt32(offset + IPV4_OFF_ID, dontFragment);
  words.setInt32(offset + IPV4_OFF_TTL, (ttlAndProtocol << 16) | (~fold(sum) & 0xffff));
  words.setInt32(offset + IPV4_OFF_SOURCE, source);
  words.setInt32(offset + IPV4_OFF_DESTINATION, destination);
}

/** Computes the header's checksum anew, whatever stood there. */
export function writeIpv4Checksum(view: Uint8Array, offset: number): void {
  writeU16(view, offset + IPV4_OFF_CHECKSUM, 0);
  writeU16(view, offset + IPV4_OFF_CHECKSUM, checksum(view, offset, ipv4HeaderBytes(view, offset)));
}

/** Changes the TOS byte and the checksum with it (RFC 1624). */
export function setIpv4Tos(view: Uint8Array, offset: number, tos: number): void {
  const oldWord = readU16(view, offset);
  view[offset + IPV4_OFF_TOS] = tos;
  writeU16(
    view,
    offset + IPV4_OFF_CHECKSUM,
    updateChecksum(ipv4Checksum(view, offset), oldWord, readU16(view, offset)),
  );
}

/** Changes the total length and the checksum with it (RFC 1624). */
export function setIpv4TotalLength(view: Uint8Array, offset: number, totalLength: number): void {
  const check = updateChecksum(ipv4Checksum(view, offset), ipv4TotalLength(view, offset), totalLength);
  writeU16(view, offset + IPV4_OFF_TOTAL_LENGTH, totalLength);
  writeU16(view, offset + IPV4_OFF_CHECKSUM, check);
}
