/**
 * What the programs and we agree on: the maps, the bytes of their keys and values, the counters. Addresses lie in
 * network byte order, as in packets; all other numbers are the machine's (little-endian).
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import { writeU32 } from '../wire/bytes.ts';

/** Kinds of maps of <linux/bpf.h>. */
const HASH = 1;
const ARRAY = 2;
const PERCPU_HASH = 5;
const PERCPU_ARRAY = 6;
const LPM_TRIE = 11;
/** Entries are allocated as they come; the kernel wants it so for tries. */
const NO_PREALLOC = 1;

export interface MapShape {
  readonly kind: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
}

const shape = (kind: number, keyBytes: number, valueBytes: number, maxEntries: number): MapShape => ({
  kind,
  keyBytes,
  valueBytes,
  maxEntries,
  flags: kind === ARRAY || kind === PERCPU_ARRAY ? 0 : NO_PREALLOC,
});

/** Cells of a direction's counters, u64 each, in one value of `totals`. */
export const CELL_PACKETS = 0;
/** Bytes that came in, as the slow path counts them: an outbound superpacket is one packet here. */
export const CELL_IN_BYTES = 1;
export const CELL_OUT_BYTES = 2;
export const CELL_SUPERPACKETS = 3;
/** The first reason for the slow path; the others follow. */
export const CELL_FIRST_REASON = 4;
const CELLS = 16;

/** Cells of a peer, u64 each. */
export const PEER_OUT_PACKETS = 0;
export const PEER_OUT_BYTES = 1;
export const PEER_IN_PACKETS = 2;
export const PEER_IN_BYTES = 3;
const PEER_CELLS = 4;

/**
 * Offsets in the one value of `settings`: the tunnel device, and until when each direction is on, by the kernel's monotonic
 * clock in nanoseconds, u64; 0 is off.
 */
export const SETTING_DEVICE = 0;
export const SETTING_OUTBOUND = 8;
export const SETTING_INBOUND = 16;
const SETTINGS_BYTES = 24;
/** For what goes on whether or not there is an agent. */
export const FOREVER_NS = 0xffff_ffff_ffff_ffffn;

/**
 * Offsets in a value of `peers`: the MTU, 0 where nothing may be sent by the fast path, the underlay device, 0 for none, and
 * the outer source; behind them the next hop as redirect_neigh takes it (struct bpf_redir_neigh): its family, 0 where the
 * kernel is to look it up, and 16 bytes for its address, of which an IPv4 one has four.
 */
export const PEER_VALUE_MTU = 0;
export const PEER_VALUE_DEVICE = 4;
export const PEER_VALUE_SOURCE = 8;
export const PEER_VALUE_NEXT_HOP = 12;
export const NEXT_HOP_BYTES = 20;
/** Of those the last twelve are 0. */
export const PEER_VALUE_ZEROS = PEER_VALUE_NEXT_HOP + 8;
const PEER_VALUE_BYTES = PEER_VALUE_NEXT_HOP + NEXT_HOP_BYTES;
const AF_INET = 2;

export const MAPS = {
  /** Inner destination -> peer, or VALUE_SLOW. */
  routes: shape(LPM_TRIE, 8, 4, 1 << 18),
  /** Peer -> what PEER_VALUE_ says of the way there. */
  peers: shape(HASH, 4, PEER_VALUE_BYTES, 1 << 16),
  /** Known peers, and what was carried for each. */
  peer_counters: shape(PERCPU_HASH, 4, PEER_CELLS * 8, 1 << 16),
  /** Inner source -> the peer that may send it, VALUE_ANY_PEER or VALUE_SLOW. */
  sources: shape(LPM_TRIE, 8, 4, 1 << 18),
  /** Outer destinations that are ours. */
  locals: shape(HASH, 4, 4, 1 << 10),
  settings: shape(ARRAY, 4, SETTINGS_BYTES, 1),
  /** Counters of a direction, by OUTBOUND and INBOUND. */
  totals: shape(PERCPU_ARRAY, 4, CELLS * 8, 2),
} as const;
export type MapName = keyof typeof MAPS;
export const MAP_NAMES = Object.keys(MAPS) as MapName[];

export const OUTBOUND = 0;
export const INBOUND = 1;

/** Values that are no peer's address: 0.0.0.0 and 1.0.0.0 as they lie in memory. */
export const VALUE_ANY_PEER = 0;
export const VALUE_SLOW = 1;

/** Why packets went on to the slow path: indexes of their cells behind CELL_FIRST_REASON. */
export const OUTBOUND_REASONS = [
  'off',
  'frozen',
  'odd',
  'options',
  'fragment',
  'nested',
  'route',
  'peer',
  'too_big',
  'underlay',
  'refused',
] as const;
export const INBOUND_REASONS = [
  'off',
  'frozen',
  'odd',
  'options',
  'fragment',
  'nested',
  'destination',
  'peer',
  'source',
  'ecn',
  'refused',
] as const;
export type OutboundReason = (typeof OUTBOUND_REASONS)[number];
export type InboundReason = (typeof INBOUND_REASONS)[number];

export function reasonsOf(direction: 'outbound' | 'inbound'): readonly string[] {
  return direction === 'outbound' ? OUTBOUND_REASONS : INBOUND_REASONS;
}

/** An address as a key or value. */
export function addressBytes(address: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, address);
  return bytes;
}

export function peerValue(
  mtu: number,
  device: number,
  source: Ipv4 | null,
  nextHop: Ipv4 | null,
): Uint8Array {
  const bytes = new Uint8Array(PEER_VALUE_BYTES);
  bytes.set(numberBytes(mtu, device));
  bytes.set(addressBytes(source ?? 0), PEER_VALUE_SOURCE);
  if (nextHop === null) return bytes;
  bytes.set(numberBytes(AF_INET), PEER_VALUE_NEXT_HOP);
  bytes.set(addressBytes(nextHop), PEER_VALUE_NEXT_HOP + 4);
  return bytes;
}

/** A prefix as a key of an LPM trie. */
export function prefixKey(address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, length, true);
  writeU32(bytes, 4, address);
  return bytes;
}

export function numberBytes(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function settingsBytes(device: number, outboundUntilNs: bigint, inboundUntilNs: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(SETTINGS_BYTES));
  view.setUint32(SETTING_DEVICE, device, true);
  view.setBigUint64(SETTING_OUTBOUND, outboundUntilNs, true);
  view.setBigUint64(SETTING_INBOUND, inboundUntilNs, true);
  return new Uint8Array(view.buffer);
}

/** Sums the cells of a per-CPU value. */
export function sumCells(bytes: Uint8Array, cells: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sums = new Array<number>(cells).fill(0);
  for (let at = 0; at < bytes.length; at += 8) sums[(at / 8) % cells]! += Number(view.getBigUint64(at, true));
  return sums;
}

/** A direction's cells, and a peer's, in what was read from the maps. */
export const totalCells = (bytes: Uint8Array): number[] => sumCells(bytes, CELLS);
export const peerCells = (bytes: Uint8Array): number[] => sumCells(bytes, PEER_CELLS);
