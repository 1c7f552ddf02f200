/**
 * What the tunnel's entry tells inner senders when a packet of theirs cannot get through (RFC 2003 §4-5).
 *
 * Routers on the underlay may quote only the outer header and 8 bytes, which is no usable inner header; so
 * what they report is kept as state per peer (path-mtu) and the *next* inner packet is answered from it:
 *   1. an ICMP error arrives about an outer packet      -> relayedError: what it means for inner senders
 *   2. an inner packet meets that state, or is too big  -> mayAnswer, TokenBucket.take
 *   3. writeIcmpError puts the answer into a buffer; it is written to the TUN like any inbound packet.
 */
import { writeU16, writeU32 } from '../wire/bytes.ts';
import { checksum } from '../wire/checksum.ts';
import {
  ICMP_HEADER_BYTES,
  ICMP_OFF_CHECKSUM,
  ICMP_OFF_CODE,
  ICMP_OFF_QUOTE,
  ICMP_OFF_REST,
  ICMP_OFF_TYPE,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  icmpIsError,
  UNREACHABLE_ADMINISTRATIVELY,
  UNREACHABLE_FRAGMENTATION_NEEDED,
  UNREACHABLE_HOST,
  UNREACHABLE_NET,
  UNREACHABLE_PORT,
  UNREACHABLE_PROTOCOL,
} from '../wire/icmpv4.ts';
import {
  IPV4_DF,
  IPV4_MIN_HEADER_BYTES,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4IsFirstFragmentOrWhole,
  ipv4Protocol,
  ipv4Source,
  ipv4TotalLength,
  isUnicast,
  PROTOCOL_ICMP,
  writeIpv4Header,
} from '../wire/ipv4.ts';

/** What an ICMP error about an outer packet means for the inner sender (RFC 2003 §4). */
export const RELAY_NOTHING = 0;
export const RELAY_NET_UNREACHABLE = 1;
export const RELAY_HOST_UNREACHABLE = 2;
export const RELAY_FRAGMENTATION_NEEDED = 3;

/** Type 3 by code. What is not listed is not relayed. */
const RELAYED_UNREACHABLE: ReadonlyMap<number, number> = new Map([
  [UNREACHABLE_NET, RELAY_NET_UNREACHABLE],
  [UNREACHABLE_HOST, RELAY_HOST_UNREACHABLE],
  // The peer has no listener for protocol 4: to the inner sender its host is away. Never relayed as code 2 (RFC 2003 §4.1).
  [UNREACHABLE_PROTOCOL, RELAY_HOST_UNREACHABLE],
  [UNREACHABLE_FRAGMENTATION_NEEDED, RELAY_FRAGMENTATION_NEEDED],
  [UNREACHABLE_ADMINISTRATIVELY, RELAY_HOST_UNREACHABLE],
]);

/** `byUdp`: the outer packet was a datagram of the `udp` transport. */
export function relayedError(type: number, code: number, byUdp = false): number {
  // Nobody listens on the peer's port: what "protocol unreachable" is for protocol 4.
  if (byUdp && type === ICMP_UNREACHABLE && code === UNREACHABLE_PORT) return RELAY_HOST_UNREACHABLE;
  if (type === ICMP_UNREACHABLE) return RELAYED_UNREACHABLE.get(code) ?? RELAY_NOTHING;
  // The outer TTL ran out: a loop or a too small TTL inside the tunnel, which the inner sender cannot see (§4.4).
  if (type === ICMP_TIME_EXCEEDED && code === 0) return RELAY_HOST_UNREACHABLE;
  return RELAY_NOTHING;
}

/** RFC 1191 §7, table 7-1: likely MTUs, for routers that report none. */
const PLATEAUS = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68] as const;

/** RFC 791: every link carries packets of 68 bytes; a report below that is forged or broken. */
const MIN_REPORTED_MTU = 68;

/**
 * The underlay's path MTU that a "fragmentation needed" reports: what it says, at least 68; and where it says
 * 0 (a router older than RFC 1191) the highest plateau below the total length of the packet that did not fit.
 */
export function reportedPathMtu(nextHopMtu: number, quotedTotalLength: number): number {
  if (nextHopMtu !== 0) return Math.max(nextHopMtu, MIN_REPORTED_MTU);
  return PLATEAUS.find((plateau) => plateau < quotedTotalLength) ?? MIN_REPORTED_MTU;
}

/**
 * Whether an ICMP error may be sent about this packet (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7): not about ICMP
 * errors, not about a fragment but the first, not where source or destination is no single host. The header
 * at `offset` has been checked.
 */
export function mayAnswer(view: Uint8Array, offset: number, length: number): boolean {
  if (!ipv4IsFirstFragmentOrWhole(view, offset)) return false;
  if (!isUnicast(ipv4Source(view, offset)) || !isUnicast(ipv4Destination(view, offset))) return false;
  if (ipv4Protocol(view, offset) !== PROTOCOL_ICMP) return true;
  const headerBytes = ipv4HeaderBytes(view, offset);
  return headerBytes < length && !icmpIsError(view[offset + headerBytes + ICMP_OFF_TYPE]!);
}

/** RFC 1812 §4.3.2.3: as much of the packet as fits without the error exceeding 576 bytes. */
export const MAX_ICMP_ERROR_BYTES = 576;
const MAX_QUOTE_BYTES = MAX_ICMP_ERROR_BYTES - IPV4_MIN_HEADER_BYTES - ICMP_HEADER_BYTES;

/** RFC 1812 §4.3.2.5: errors are sent with precedence 6, internetwork control. */
const TOS_INTERNETWORK_CONTROL = 0xc0;
const ERROR_TTL = 64;

/**
 * Writes the answer at `target` (up to 576 bytes) to the sender of the packet at `offset`, and returns its length.
 * `from` is the address it comes from. Beware: what is written to a TUN with a source that this host has itself is
 * a martian to the kernel (unless accept_local is set); the inner destination is a source that always passes.
 * Id 0 with DF, since it is never fragmented (RFC 6864 §4.1).
 */
export function writeIcmpError(
  output: Uint8Array,
  target: number,
  type: number,
  code: number,
  rest: number,
  from: number,
  view: Uint8Array,
  offset: number,
  length: number,
): number {
  const quoteBytes = Math.min(length, ipv4TotalLength(view, offset), MAX_QUOTE_BYTES);
  const messageBytes = ICMP_HEADER_BYTES + quoteBytes;
  const message = target + IPV4_MIN_HEADER_BYTES;
  const totalLength = IPV4_MIN_HEADER_BYTES + messageBytes;
  const to = ipv4Source(view, offset);
  for (let i = 0; i < quoteBytes; i++) output[message + ICMP_OFF_QUOTE + i] = view[offset + i]!;
  output[message + ICMP_OFF_TYPE] = type;
  output[message + ICMP_OFF_CODE] = code;
  writeU16(output, message + ICMP_OFF_CHECKSUM, 0);
  writeU32(output, message + ICMP_OFF_REST, rest);
  writeU16(output, message + ICMP_OFF_CHECKSUM, checksum(output, message, messageBytes));
  writeIpv4Header(
    output,
    target,
    TOS_INTERNETWORK_CONTROL,
    totalLength,
    0,
    IPV4_DF,
    ERROR_TTL,
    PROTOCOL_ICMP,
    from,
    to,
  );
  return totalLength;
}

/** "Fragmentation needed and DF set" (RFC 1191 §4): packets of up to `innerMtu` bytes get through. */
export function writeFragmentationNeeded(
  output: Uint8Array,
  target: number,
  innerMtu: number,
  from: number,
  view: Uint8Array,
  offset: number,
  length: number,
): number {
  const code = UNREACHABLE_FRAGMENTATION_NEEDED;
  return writeIcmpError(output, target, ICMP_UNREACHABLE, code, innerMtu, from, view, offset, length);
}

export function writeHostUnreachable(
  output: Uint8Array,
  target: number,
  from: number,
  view: Uint8Array,
  offset: number,
  length: number,
): number {
  return writeIcmpError(output, target, ICMP_UNREACHABLE, UNREACHABLE_HOST, 0, from, view, offset, length);
}

/** RFC 1812 §4.3.2.8: errors are limited in rate. The clock is the caller's, monotonic, in milliseconds. */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #lastMs: number;

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#lastMs = nowMs;
  }

  /** Takes one token if there is one. A clock that went back adds none. */
  take(nowMs: number): boolean {
    const elapsedMs = Math.max(0, nowMs - this.#lastMs);
    this.#tokens = Math.min(this.#burst, this.#tokens + elapsedMs * this.#perMs);
    this.#lastMs = Math.max(this.#lastMs, nowMs);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
