/** What outbound-program.ts must do to a packet, in plain TypeScript: slow, obvious, and held to it by a test. */
import {
  checkIpv4,
  IPV4_OK,
  ipv4Destination,
  ipv4DontFragment,
  ipv4IsFragment,
  ipv4Protocol,
  ipv4Tos,
  ipv4TotalLength,
  ipv4Ttl,
  PROTOCOL_IPIP,
  writeIpv4Header,
} from '../wire/ipv4.ts';
import type { OutboundReason } from './layout.ts';

/** What the maps say, as functions of addresses. */
export interface OutboundTables {
  readonly on: boolean;
  /** The agent has not said for long that it follows. */
  readonly frozen: boolean;
  readonly source: number;
  readonly device: number;
  /** The one peer of the longest prefix; null where there is none, or no single one. */
  route(destination: number): number | null;
  peer(address: number): { readonly mtu: number; readonly device: number } | null;
}

export type OutboundVerdict =
  | { readonly path: 'slow'; readonly reason: OutboundReason }
  | { readonly path: 'fast'; readonly device: number; readonly packet: Uint8Array };

const OUTER_BYTES = 20;
const OUTER_TTL = 64;
const IPV4_DF = 0x4000;
const slow = (reason: OutboundReason): OutboundVerdict => ({ path: 'slow', reason });

/** `id` is what the program draws where the inner packet has no DF. */
export function outboundTwin(packet: Uint8Array, tables: OutboundTables, id = 0): OutboundVerdict {
  if (!tables.on) return slow('off');
  if (tables.frozen) return slow('frozen');
  const wrong = headerProblem(packet, packet.length);
  if (wrong) return slow(wrong);
  if (ipv4Ttl(packet, 0) === 0) return slow('odd');
  if (ipv4Protocol(packet, 0) === PROTOCOL_IPIP) return slow('nested');
  const gateway = tables.route(ipv4Destination(packet, 0));
  if (gateway === null) return slow('route');
  const peer = tables.peer(gateway);
  if (!peer || peer.mtu === 0) return slow('peer');
  if (peer.device === 0 || peer.device === tables.device) return slow('underlay');
  if (packet.length + OUTER_BYTES > peer.mtu) return slow('too_big');
  const df = ipv4DontFragment(packet, 0) ? IPV4_DF : 0;
  const outer = new Uint8Array(OUTER_BYTES + packet.length);
  outer.set(packet, OUTER_BYTES);
  const total = packet.length + OUTER_BYTES;
  const tos = ipv4Tos(packet, 0);
  writeIpv4Header(outer, 0, tos, total, df ? 0 : id, df, OUTER_TTL, PROTOCOL_IPIP, tables.source, gateway);
  return { path: 'fast', device: peer.device, packet: outer };
}

/** Why `length` bytes are not a whole packet with a plain header, in the order in which the programs ask. */
export function headerProblem(packet: Uint8Array, length: number): 'odd' | 'options' | 'fragment' | null {
  if (packet.length < 20 || packet[0]! >>> 4 !== 4) return 'odd';
  if (packet[0] !== 0x45) return 'options';
  if (ipv4TotalLength(packet, 0) !== length) return 'odd';
  if (checkIpv4(packet, 0, packet.length) !== IPV4_OK) return 'odd';
  return ipv4IsFragment(packet, 0) ? 'fragment' : null;
}
