/**
 * A captured frame as a list of layers, outermost first, for people and for tests; not on the packets' way.
 * Total: whatever the bytes are, the answer is layers, the last of which says what could not be read.
 * Lengths and checksums are verified and reported as found: a capture taken with offloads on shows
 * superpackets and partial checksums, and it says so.
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import { readU16, readU32 } from './bytes.ts';
import { pseudoHeaderSum, sumBytes } from './checksum.ts';
import {
  ETHERNET_HEADER_BYTES,
  ETHERNET_OFF_SOURCE,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  etherType,
  formatMac,
} from './ethernet.ts';
import { ICMP_HEADER_BYTES, ICMP_OFF_QUOTE, ICMP_UNREACHABLE, icmpIsError } from './icmpv4.ts';
import {
  IPV4_DF,
  IPV4_FRAGMENT_OFFSET_MASK,
  IPV4_MF,
  IPV4_MIN_HEADER_BYTES,
  ipv4Destination,
  ipv4Fragment,
  ipv4HeaderBytes,
  ipv4Id,
  ipv4Protocol,
  ipv4Source,
  ipv4Tos,
  ipv4TotalLength,
  ipv4Ttl,
  PROTOCOL_ICMP,
  PROTOCOL_IPIP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from './ipv4.ts';
import {
  checkTcp,
  TCP_OFF_CHECKSUM,
  TCP_OFF_DESTINATION_PORT,
  tcpAcknowledgement,
  tcpFlags,
  tcpHeaderBytes,
  tcpSequence,
  tcpWindow,
} from './tcp.ts';
import { UDP_HEADER_BYTES, UDP_OFF_CHECKSUM, UDP_OFF_DESTINATION_PORT, udpLength } from './udp.ts';

/**
 * `partial`: only the pseudo-header's sum, left for an offload; `none`: the sender computed none (UDP);
 * `unknown`: not all bytes that it covers are here (a fragment, a quote, a cut capture).
 */
export type ChecksumState = 'ok' | 'bad' | 'partial' | 'none' | 'unknown';

interface At {
  /** Where the layer begins in the frame, and how many bytes are its own. */
  readonly offset: number;
  readonly length: number;
}

export interface EthernetLayer extends At {
  readonly kind: 'ethernet';
  readonly source: string;
  readonly destination: string;
  readonly type: number;
}

export interface Ipv4Layer extends At {
  readonly kind: 'ipv4';
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly protocol: number;
  readonly totalLength: number;
  readonly ttl: number;
  readonly tos: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes. */
  readonly fragmentOffset: number;
  readonly checksum: ChecksumState;
  /** Bytes that the total length promises and the frame does not hold. */
  readonly missing: number;
}

export interface TcpLayer extends At {
  readonly kind: 'tcp';
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  readonly checksum: ChecksumState;
}

export interface UdpLayer extends At {
  readonly kind: 'udp';
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** As its header says, header included. */
  readonly datagramLength: number;
  readonly checksum: ChecksumState;
}

export interface IcmpLayer extends At {
  readonly kind: 'icmp';
  readonly type: number;
  readonly code: number;
  /** The second word: of echoes identifier and sequence number, of "fragmentation needed" the MTU. */
  readonly rest: number;
  readonly checksum: ChecksumState;
}

export interface ArpLayer extends At {
  readonly kind: 'arp';
  readonly operation: number;
  readonly senderMac: string;
  readonly sender: Ipv4;
  readonly target: Ipv4;
}

/** Payload; bytes after the packet; or what could not be read, with the reason. */
export interface DataLayer extends At {
  readonly kind: 'data' | 'padding' | 'unreadable';
  readonly reason?: string;
}

export type Layer = EthernetLayer | Ipv4Layer | TcpLayer | UdpLayer | IcmpLayer | ArpLayer | DataLayer;

export interface DecodeOptions {
  /** What the bytes begin with: 'ethernet' unless said. */
  readonly link?: 'ethernet' | 'ip';
  /** UDP destination ports whose payload is an inner packet; 5555, the `udp` transport's default, unless said. */
  readonly tunnelPorts?: readonly number[];
}

const DEFAULT_TUNNEL_PORTS: readonly number[] = [5555];
const ARP_IPV4_BYTES = 28;

/** The way down the layers: where we are, where the enclosing layer ends, and how its bytes are to be judged. */
interface Cursor {
  readonly view: Uint8Array;
  readonly layers: Layer[];
  readonly tunnelPorts: readonly number[];
  /** Within the quote of an ICMP error, which is cut off by design. */
  quoted: boolean;
}

export function decodeFrame(bytes: Uint8Array, options: DecodeOptions = {}): readonly Layer[] {
  const tunnelPorts = options.tunnelPorts ?? DEFAULT_TUNNEL_PORTS;
  const cursor: Cursor = { view: bytes, layers: [], tunnelPorts, quoted: false };
  if ((options.link ?? 'ethernet') === 'ip') decodeIpv4(cursor, 0, bytes.length);
  else decodeEthernet(cursor);
  return cursor.layers;
}

/** The IPv4 layers that carried the packet, outermost first; those that ICMP errors quote are not among them. */
export function ipv4Layers(layers: readonly Layer[]): readonly Ipv4Layer[] {
  const error = layers.findIndex((layer) => layer.kind === 'icmp' && icmpIsError(layer.type));
  return layers.slice(0, error < 0 ? undefined : error).filter((layer) => layer.kind === 'ipv4');
}

function rest(cursor: Cursor, offset: number, end: number, kind: DataLayer['kind'], reason?: string): void {
  if (end <= offset && reason === undefined) return;
  const length = Math.max(0, end - offset);
  cursor.layers.push({ kind, offset, length, ...(reason === undefined ? {} : { reason }) });
}

function decodeEthernet(cursor: Cursor): void {
  const { view, layers } = cursor;
  if (view.length < ETHERNET_HEADER_BYTES) {
    rest(cursor, 0, view.length, 'unreadable', 'too short for an Ethernet header');
    return;
  }
  const type = etherType(view, 0);
  layers.push({
    kind: 'ethernet',
    offset: 0,
    length: ETHERNET_HEADER_BYTES,
    source: formatMac(view, ETHERNET_OFF_SOURCE),
    destination: formatMac(view, 0),
    type,
  });
  if (type === ETHERTYPE_IPV4) decodeIpv4(cursor, ETHERNET_HEADER_BYTES, view.length);
  else if (type === ETHERTYPE_ARP) decodeArp(cursor, ETHERNET_HEADER_BYTES);
  else rest(cursor, ETHERNET_HEADER_BYTES, view.length, 'data');
}

function decodeArp(cursor: Cursor, offset: number): void {
  const { view } = cursor;
  if (view.length < offset + ARP_IPV4_BYTES) {
    rest(cursor, offset, view.length, 'unreadable', 'too short for ARP');
    return;
  }
  cursor.layers.push({
    kind: 'arp',
    offset,
    length: ARP_IPV4_BYTES,
    operation: readU16(view, offset + 6),
    senderMac: formatMac(view, offset + 8),
    sender: readU32(view, offset + 14) as Ipv4,
    target: readU32(view, offset + 24) as Ipv4,
  });
  rest(cursor, offset + ARP_IPV4_BYTES, view.length, 'padding');
}

function ipv4Unreadable(view: Uint8Array, offset: number, end: number): string | undefined {
  if (end - offset < IPV4_MIN_HEADER_BYTES) return 'too short for an IPv4 header';
  if (view[offset]! >>> 4 !== 4) return `IP version ${view[offset]! >>> 4}, expected 4`;
  const headerBytes = ipv4HeaderBytes(view, offset);
  if (headerBytes < IPV4_MIN_HEADER_BYTES || offset + headerBytes > end)
    return `an IPv4 header of ${headerBytes} bytes`;
  if (ipv4TotalLength(view, offset) < headerBytes)
    return `a total length of ${ipv4TotalLength(view, offset)} bytes, less than the header's ${headerBytes}`;
  return undefined;
}

function decodeIpv4(cursor: Cursor, offset: number, end: number): void {
  const { view } = cursor;
  const problem = ipv4Unreadable(view, offset, end);
  if (problem !== undefined) {
    rest(cursor, offset, end, 'unreadable', problem);
    return;
  }
  const headerBytes = ipv4HeaderBytes(view, offset);
  const fragment = ipv4Fragment(view, offset);
  const totalLength = ipv4TotalLength(view, offset);
  const packetEnd = Math.min(end, offset + totalLength);
  cursor.layers.push({
    kind: 'ipv4',
    offset,
    length: headerBytes,
    source: ipv4Source(view, offset) as Ipv4,
    destination: ipv4Destination(view, offset) as Ipv4,
    protocol: ipv4Protocol(view, offset),
    totalLength,
    ttl: ipv4Ttl(view, offset),
    tos: ipv4Tos(view, offset),
    id: ipv4Id(view, offset),
    dontFragment: (fragment & IPV4_DF) !== 0,
    moreFragments: (fragment & IPV4_MF) !== 0,
    fragmentOffset: (fragment & IPV4_FRAGMENT_OFFSET_MASK) * 8,
    checksum: sumBytes(view, offset, headerBytes, 0) === 0xffff ? 'ok' : 'bad',
    missing: offset + totalLength - packetEnd,
  });
  if ((fragment & IPV4_FRAGMENT_OFFSET_MASK) !== 0)
    rest(cursor, offset + headerBytes, packetEnd, 'data', 'a later fragment');
  else decodeTransport(cursor, offset, packetEnd);
  rest(cursor, packetEnd, end, 'padding');
}

function decodeTransport(cursor: Cursor, ip: number, end: number): void {
  const { view } = cursor;
  const offset = ip + ipv4HeaderBytes(view, ip);
  const whole = (ipv4Fragment(view, ip) & IPV4_MF) === 0 && ip + ipv4TotalLength(view, ip) === end;
  const protocol = ipv4Protocol(view, ip);
  if (protocol === PROTOCOL_IPIP) decodeIpv4(cursor, offset, end);
  else if (protocol === PROTOCOL_TCP) decodeTcp(cursor, ip, offset, end, whole);
  else if (protocol === PROTOCOL_UDP) decodeUdp(cursor, ip, offset, end, whole);
  else if (protocol === PROTOCOL_ICMP) decodeIcmp(cursor, offset, end, whole);
  else rest(cursor, offset, end, 'data');
}

function transportChecksum(
  view: Uint8Array,
  ip: number,
  offset: number,
  end: number,
  whole: boolean,
  field: number,
): ChecksumState {
  if (!whole) return 'unknown';
  const protocol = ipv4Protocol(view, ip);
  const check = readU16(view, offset + field);
  if (protocol === PROTOCOL_UDP && check === 0) return 'none';
  const pseudo = pseudoHeaderSum(ipv4Source(view, ip), ipv4Destination(view, ip), protocol, end - offset);
  if (sumBytes(view, offset, end - offset, pseudo) === 0xffff) return 'ok';
  return check === pseudo ? 'partial' : 'bad';
}

function decodeTcp(cursor: Cursor, ip: number, offset: number, end: number, whole: boolean): void {
  const { view } = cursor;
  if (!checkTcp(view, offset, end - offset)) {
    rest(
      cursor,
      offset,
      end,
      'unreadable',
      cursor.quoted ? 'the start of a TCP header' : 'no whole TCP header',
    );
    return;
  }
  const length = tcpHeaderBytes(view, offset);
  cursor.layers.push({
    kind: 'tcp',
    offset,
    length,
    sourcePort: readU16(view, offset),
    destinationPort: readU16(view, offset + TCP_OFF_DESTINATION_PORT),
    sequence: tcpSequence(view, offset),
    acknowledgement: tcpAcknowledgement(view, offset),
    flags: tcpFlags(view, offset),
    window: tcpWindow(view, offset),
    checksum: transportChecksum(view, ip, offset, end, whole, TCP_OFF_CHECKSUM),
  });
  rest(cursor, offset + length, end, 'data');
}

function decodeUdp(cursor: Cursor, ip: number, offset: number, end: number, whole: boolean): void {
  const { view } = cursor;
  if (end - offset < UDP_HEADER_BYTES) {
    rest(cursor, offset, end, 'unreadable', 'no whole UDP header');
    return;
  }
  const destinationPort = readU16(view, offset + UDP_OFF_DESTINATION_PORT);
  cursor.layers.push({
    kind: 'udp',
    offset,
    length: UDP_HEADER_BYTES,
    sourcePort: readU16(view, offset),
    destinationPort,
    datagramLength: udpLength(view, offset),
    checksum: transportChecksum(view, ip, offset, end, whole, UDP_OFF_CHECKSUM),
  });
  const payload = offset + UDP_HEADER_BYTES;
  const tunnelled =
    cursor.tunnelPorts.includes(destinationPort) && ipv4Unreadable(view, payload, end) === undefined;
  if (tunnelled) decodeIpv4(cursor, payload, end);
  else rest(cursor, payload, end, 'data');
}

function decodeIcmp(cursor: Cursor, offset: number, end: number, whole: boolean): void {
  const { view } = cursor;
  if (end - offset < ICMP_HEADER_BYTES) {
    rest(cursor, offset, end, 'unreadable', 'no whole ICMP header');
    return;
  }
  const type = view[offset]!;
  const right = sumBytes(view, offset, end - offset, 0) === 0xffff;
  cursor.layers.push({
    kind: 'icmp',
    offset,
    length: ICMP_HEADER_BYTES,
    type,
    code: view[offset + 1]!,
    rest: readU32(view, offset + 4),
    checksum: whole ? (right ? 'ok' : 'bad') : 'unknown',
  });
  const quotes = icmpIsError(type) && type >= ICMP_UNREACHABLE && !cursor.quoted;
  if (!quotes) {
    rest(cursor, offset + ICMP_HEADER_BYTES, end, 'data');
    return;
  }
  cursor.quoted = true;
  decodeIpv4(cursor, offset + ICMP_OFF_QUOTE, end);
}
