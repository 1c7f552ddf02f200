/**
 * Frames in words: one line each for lists, and layer by layer with the bytes for explanations. What is wrong
 * with a packet is said where it is wrong; what a capture cannot tell (partial checksums, cut quotes) too.
 */
import { formatIpv4 } from '../ip/ipv4.ts';
import {
  type ArpLayer,
  type ChecksumState,
  type DecodeOptions,
  decodeFrame,
  type IcmpLayer,
  type Ipv4Layer,
  type Layer,
  type TcpLayer,
} from './decode.ts';
import { ETHERTYPE_IPV4 } from './ethernet.ts';
import { PROTOCOL_ICMP, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP } from './ipv4.ts';

export interface PrettyPrintOptions extends DecodeOptions {
  /** Each layer's bytes below its line; true unless said. */
  readonly hex?: boolean;
}

const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([
  [PROTOCOL_ICMP, 'ICMP'],
  [PROTOCOL_IPIP, 'IP in IP'],
  [PROTOCOL_TCP, 'TCP'],
  [PROTOCOL_UDP, 'UDP'],
]);

const ETHERTYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [ETHERTYPE_IPV4, 'IPv4'],
  [0x0806, 'ARP'],
  [0x8100, 'VLAN'],
  [0x86dd, 'IPv6'],
]);

const ICMP_NAMES: ReadonlyMap<string, string> = new Map([
  ['0/0', 'echo reply'],
  ['8/0', 'echo request'],
  ['3/0', 'network unreachable'],
  ['3/1', 'host unreachable'],
  ['3/2', 'protocol unreachable'],
  ['3/3', 'port unreachable'],
  ['3/4', 'fragmentation needed'],
  ['3/13', 'administratively prohibited'],
  ['11/0', 'time exceeded'],
  ['11/1', 'reassembly time exceeded'],
]);

const ECN_NAMES = ['', 'ECT(1)', 'ECT(0)', 'CE'] as const;
const TCP_FLAG_NAMES = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'] as const;

const CHECKSUM_TEXT: Readonly<Record<ChecksumState, string>> = {
  ok: 'checksum ok',
  bad: 'checksum BAD',
  partial: 'checksum partial (left for an offload)',
  none: 'no checksum',
  unknown: 'checksum not verifiable here',
};

/** `192.168.12.1 > 192.168.77.129 ICMP echo request, id 7, seq 1, 84 bytes`, with the outer header in front where there is one. */
export function describeFrame(bytes: Uint8Array, options: PrettyPrintOptions = {}): string {
  const layers = decodeFrame(bytes, options);
  const parts: string[] = [];
  for (const [index, layer] of layers.entries()) {
    if (layer.kind === 'ethernet') continue;
    if (layer.kind === 'ipv4') parts.push(oneLineIpv4(layer, layers[index + 1]));
    else if (layer.kind === 'unreadable') parts.push(`unreadable: ${layer.reason}`);
    else if (layer.kind === 'arp') parts.push(arpText(layer));
  }
  if (parts.length > 0) return parts.join(' | ');
  const first = layers[0];
  return first?.kind === 'ethernet'
    ? `${first.source} > ${first.destination} ${typeName(first.type)}, ${bytes.length} bytes`
    : 'an empty frame';
}

/** Each layer on a line of its own, its bytes below it. */
export function explainFrame(bytes: Uint8Array, options: PrettyPrintOptions = {}): string {
  const layers = decodeFrame(bytes, options);
  const names = layerNames(layers);
  const width = Math.max(0, ...names.map((name) => name.length));
  const lines: string[] = [];
  for (const [index, layer] of layers.entries()) {
    const text = [...layerFacts(layer), ...problemsOf(layer)].join(', ');
    lines.push(`${(names[index] ?? '').padEnd(width)}  ${text}`);
    if (options.hex ?? true) lines.push(...hexDump(bytes, layer.offset, layer.length));
  }
  return lines.join('\n');
}

/** Rows of 16 bytes: offset in the frame, hexadecimal, printable ASCII. */
export function hexDump(bytes: Uint8Array, offset = 0, length = bytes.length - offset): string[] {
  const rows: string[] = [];
  for (let at = offset; at < offset + length; at += 16) {
    const row = bytes.subarray(at, Math.min(at + 16, offset + length));
    const hex = [...row].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const ascii = [...row]
      .map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.'))
      .join('');
    rows.push(`  ${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${ascii}`);
  }
  return rows;
}

/** With two IP headers the first is the outer and the second the inner one; those behind an ICMP error are quoted. */
function layerNames(layers: readonly Layer[]): string[] {
  const error = layers.findIndex((layer, i) => layer.kind === 'icmp' && layers[i + 1]?.kind === 'ipv4');
  const carried = layers.filter((layer, i) => layer.kind === 'ipv4' && (error < 0 || i < error));
  return layers.map((layer, index) => {
    const quoted = error >= 0 && index > error;
    const name = layerName(layer, carried.length > 1 && !quoted, layer === carried[0]);
    return quoted ? `quoted ${name}` : name;
  });
}

function layerName(layer: Layer, tunnelled: boolean, first: boolean): string {
  switch (layer.kind) {
    case 'ethernet':
      return 'Ethernet';
    case 'ipv4':
      return tunnelled ? (first ? 'outer IPv4' : 'inner IPv4') : 'IPv4';
    case 'tcp':
    case 'udp':
    case 'icmp':
    case 'arp':
      return layer.kind.toUpperCase();
    default:
      return layer.kind;
  }
}

function layerFacts(layer: Layer): string[] {
  switch (layer.kind) {
    case 'ethernet':
      return [`${layer.source} > ${layer.destination}`, typeName(layer.type)];
    case 'ipv4':
      return ipv4Facts(layer);
    case 'tcp':
      return [`port ${layer.sourcePort} > ${layer.destinationPort}`, ...tcpFacts(layer)];
    case 'udp':
      return [`port ${layer.sourcePort} > ${layer.destinationPort}`, `${layer.datagramLength} bytes`];
    case 'icmp':
      return icmpFacts(layer);
    case 'arp':
      return [arpText(layer)];
    default:
      return [`${layer.length} bytes`, ...(layer.reason === undefined ? [] : [layer.reason])];
  }
}

function ipv4Facts(layer: Ipv4Layer): string[] {
  const dscp = layer.tos >>> 2;
  const ecn = ECN_NAMES[layer.tos & 3] ?? '';
  return [
    `${formatIpv4(layer.source)} > ${formatIpv4(layer.destination)}`,
    `protocol ${layer.protocol}${nameInBrackets(PROTOCOL_NAMES.get(layer.protocol))}`,
    `ttl ${layer.ttl}`,
    ...(dscp === 0 ? [] : [`dscp ${dscp}`]),
    ...(ecn === '' ? [] : [ecn]),
    `id ${layer.id}`,
    ...(layer.dontFragment ? ['DF'] : []),
    ...(layer.moreFragments || layer.fragmentOffset > 0 ? [fragmentText(layer)] : []),
    `${layer.totalLength} bytes`,
  ];
}

function fragmentText(layer: Ipv4Layer): string {
  return `fragment at ${layer.fragmentOffset}${layer.moreFragments ? ', more follow' : ', the last'}`;
}

function tcpFacts(layer: TcpLayer): string[] {
  const flags = TCP_FLAG_NAMES.filter((_, bit) => (layer.flags & (1 << bit)) !== 0);
  return [
    flags.length > 0 ? flags.join(' ') : 'no flags',
    `seq ${layer.sequence}`,
    `ack ${layer.acknowledgement}`,
    `window ${layer.window}`,
  ];
}

function icmpFacts(layer: IcmpLayer): string[] {
  const name = ICMP_NAMES.get(`${layer.type}/${layer.code}`) ?? `type ${layer.type} code ${layer.code}`;
  if (layer.type === 0 || layer.type === 8)
    return [name, `id ${layer.rest >>> 16}`, `seq ${layer.rest & 0xffff}`];
  return layer.type === 3 && layer.code === 4 ? [name, `mtu ${layer.rest & 0xffff}`] : [name];
}

function arpText(layer: ArpLayer): string {
  if (layer.operation === 1) return `who has ${formatIpv4(layer.target)}? tell ${formatIpv4(layer.sender)}`;
  if (layer.operation === 2) return `${formatIpv4(layer.sender)} is at ${layer.senderMac}`;
  return `ARP operation ${layer.operation}`;
}

function problemsOf(layer: Layer): string[] {
  if (!('checksum' in layer)) return [];
  const missing = layer.kind === 'ipv4' && layer.missing > 0 ? [`${layer.missing} bytes are not here`] : [];
  return [CHECKSUM_TEXT[layer.checksum], ...missing];
}

/** An IPv4 layer and what it carries; a right checksum goes without saying here. */
function oneLineIpv4(layer: Ipv4Layer, next: Layer | undefined): string {
  const addresses = `${formatIpv4(layer.source)} > ${formatIpv4(layer.destination)}`;
  const facts = [carriedText(layer, next), `ttl ${layer.ttl}`, `${layer.totalLength} bytes`];
  for (const part of [layer, next]) {
    if (part === undefined || !('checksum' in part)) continue;
    if (part.kind !== 'ipv4' || part === layer)
      facts.push(...problemsOf(part).filter((text) => text !== CHECKSUM_TEXT.ok));
  }
  return `${addresses} ${facts.join(', ')}`;
}

function carriedText(layer: Ipv4Layer, next: Layer | undefined): string {
  if (layer.fragmentOffset > 0) return fragmentText(layer);
  const protocol = PROTOCOL_NAMES.get(layer.protocol) ?? `protocol ${layer.protocol}`;
  if (layer.protocol === PROTOCOL_IPIP) return `protocol 4 (${protocol})`;
  if (next?.kind === 'icmp') return `${protocol} ${icmpFacts(next).join(', ')}`;
  if (next?.kind === 'udp') return `${protocol} port ${next.sourcePort} > ${next.destinationPort}`;
  if (next?.kind !== 'tcp') return protocol;
  return `${protocol} port ${next.sourcePort} > ${next.destinationPort}, ${tcpFacts(next).join(', ')}`;
}

function typeName(type: number): string {
  return ETHERTYPE_NAMES.get(type) ?? `type 0x${type.toString(16).padStart(4, '0')}`;
}

function nameInBrackets(name: string | undefined): string {
  return name === undefined ? '' : ` (${name})`;
}
