/** What inbound-program.ts must do to an Ethernet frame, in plain TypeScript: slow, obvious, and held to it by a test. */
import { readU16 } from '../wire/bytes.ts';
import {
  ipv4Destination,
  ipv4Protocol,
  ipv4Source,
  ipv4Tos,
  PROTOCOL_IPIP,
  setIpv4Tos,
} from '../wire/ipv4.ts';
import type { InboundReason } from './layout.ts';
import { headerProblem } from './outbound-twin.ts';

/** What the maps say, as functions of addresses. */
export interface InboundTables {
  readonly on: boolean;
  /** The agent has not said for long that it follows. */
  readonly frozen: boolean;
  isLocal(address: number): boolean;
  isPeer(address: number): boolean;
  /** Who may send this inner source by the longest prefix; null where nobody, or no single one. */
  owner(innerSource: number): number | 'any-peer' | null;
}

export type InboundVerdict =
  /** No protocol 4: none of ours, and not counted. */
  | { readonly path: 'other' }
  | { readonly path: 'slow'; readonly reason: InboundReason }
  /** The inner packet behind the Ethernet header that it came with. */
  | { readonly path: 'fast'; readonly frame: Uint8Array };

const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const HEADER_BYTES = 20;
const slow = (reason: InboundReason): InboundVerdict => ({ path: 'slow', reason });

export function inboundTwin(frame: Uint8Array, tables: InboundTables): InboundVerdict {
  const outer = frame.subarray(ETHERNET_BYTES);
  if (readU16(frame, 12) !== ETHERTYPE_IPV4 || outer.length < HEADER_BYTES) return { path: 'other' };
  if (ipv4Protocol(outer, 0) !== PROTOCOL_IPIP) return { path: 'other' };
  if (!tables.on) return slow('off');
  if (tables.frozen) return slow('frozen');
  const outerProblem = headerProblem(outer, outer.length);
  if (outerProblem) return slow(outerProblem);
  if (!tables.isLocal(ipv4Destination(outer, 0))) return slow('destination');
  if (!tables.isPeer(ipv4Source(outer, 0))) return slow('peer');
  const inner = outer.slice(HEADER_BYTES);
  const innerProblem = headerProblem(inner, inner.length);
  if (innerProblem) return slow(innerProblem);
  if (ipv4Protocol(inner, 0) === PROTOCOL_IPIP) return slow('nested');
  const owner = tables.owner(ipv4Source(inner, 0));
  if (owner !== 'any-peer' && owner !== ipv4Source(outer, 0)) return slow('source');
  const tos = mergedTos(ipv4Tos(inner, 0), ipv4Tos(outer, 0));
  if (tos === null) return slow('ecn');
  setIpv4Tos(inner, 0, tos);
  return { path: 'fast', frame: Uint8Array.from([...frame.subarray(0, ETHERNET_BYTES), ...inner]) };
}

/** RFC 6040 figure 4; null is its "drop". Code points: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE. */
function mergedTos(inner: number, outer: number): number | null {
  const [innerEcn, outerEcn] = [inner & 3, outer & 3];
  if (outerEcn === 3) return innerEcn === 0 ? null : inner | 3;
  return outerEcn === 1 && innerEcn === 2 ? inner - 1 : inner;
}
