/**
 * Counters in memory that the agent's thread and a direction's worker share: the worker adds, others read.
 * Float64, exact to 2^53; each cell has one writer, so nothing is locked. Names are those of docs/counters.md:
 * `<direction>_<verdict>_<reason>_<unit>`.
 *
 * Conservation holds at any moment between two batches, in packets as they would be on the wire:
 *     in = out + the sum of drops       (replies are packets of our own making and count apart)
 */

export type Direction = 'outbound' | 'inbound';

/** What entered: from the TUN, or from the underlay. */
export const IN_PACKETS = 0;
export const IN_BYTES = 1;
/** What left. */
export const OUT_PACKETS = 2;
export const OUT_BYTES = 3;
/** System calls that brought packets; packets per call tell how well batches fill. */
export const IN_BATCHES = 4;
/** Superpackets among what entered, each counted by its segments above. */
export const IN_SUPERPACKETS = 5;
/** ICMP errors that we made for inner senders. */
export const REPLY_FRAGMENTATION_NEEDED = 6;
export const REPLY_HOST_UNREACHABLE = 7;
/** Answers withheld by the rate limit, or not taken by the host. */
export const REPLY_SUPPRESSED = 8;
/** ICMP errors about our outer packets that were understood and kept. */
export const NOTE_ICMP_ERRORS = 9;
/** Configuration changes applied. */
export const NOTE_CHANGES = 10;
/** Packets that left as frames of our own, by the packet socket. */
export const NOTE_FRAMES = 11;
/** How often the inbound direction changed from one packet thread to the other. */
export const NOTE_HAND_OVERS = 12;
/** The first drop reason; the others follow. */
const FIRST_DROP = 13;

/** Reasons for which a packet from the TUN does not leave. Numbers are indexes into OUTBOUND_DROP_NAMES. */
export const OUTBOUND_NOT_IPV4 = 0;
export const OUTBOUND_MALFORMED = 1;
export const OUTBOUND_TTL_ZERO = 2;
export const OUTBOUND_NO_ROUTE = 3;
export const OUTBOUND_NO_PEER = 4;
export const OUTBOUND_NO_TRANSPORT = 5;
export const OUTBOUND_LOOP_NESTED = 6;
export const OUTBOUND_LOOP_LOCAL = 7;
export const OUTBOUND_TOO_BIG = 8;
export const OUTBOUND_BUFFER_FULL = 9;
export const OUTBOUND_LINK_MTU = 10;
export const OUTBOUND_NO_UNDERLAY_ROUTE = 11;
export const OUTBOUND_FIREWALL = 12;
export const OUTBOUND_LINK_DOWN = 13;
export const OUTBOUND_REFUSED = 14;

export const OUTBOUND_DROP_NAMES: readonly string[] = [
  'not_ipv4',
  'malformed',
  'ttl_zero',
  'no_route',
  'no_peer',
  'no_transport',
  'loop_nested',
  'loop_local',
  'too_big',
  'buffer_full',
  'link_mtu',
  'no_underlay_route',
  'firewall',
  'link_down',
  'refused',
];

/** Reasons for which a packet from the underlay does not reach the TUN: indexes into INBOUND_DROP_NAMES. */
export const INBOUND_OUTER_MALFORMED = 0;
export const INBOUND_OUTER_NOT_FOR_US = 1;
export const INBOUND_OUTER_SOURCE_UNKNOWN = 2;
export const INBOUND_INNER_NOT_IPV4 = 3;
export const INBOUND_INNER_MALFORMED = 4;
export const INBOUND_INNER_SOURCE_LOCAL = 5;
export const INBOUND_INNER_SOURCE_FOREIGN = 6;
export const INBOUND_INNER_SOURCE_UNKNOWN = 7;
export const INBOUND_LOOP_NESTED = 8;
export const INBOUND_ECN_CONGESTION = 9;
export const INBOUND_SEGMENT_SIZE_UNKNOWN = 10;
export const INBOUND_DEVICE_FULL = 11;
export const INBOUND_DEVICE_DOWN = 12;
export const INBOUND_DEVICE_REFUSED = 13;

export const INBOUND_DROP_NAMES: readonly string[] = [
  'outer_malformed',
  'outer_not_for_us',
  'outer_source_unknown',
  'inner_not_ipv4',
  'inner_malformed',
  'inner_source_local',
  'inner_source_foreign',
  'inner_source_unknown',
  'loop_nested',
  'ecn_congestion',
  'segment_size_unknown',
  'device_full',
  'device_down',
  'device_refused',
];

const COMMON_NAMES: Readonly<Record<Direction, readonly string[]>> = {
  outbound: [
    'in_device_packets',
    'in_device_bytes',
    'out_underlay_packets',
    'out_underlay_bytes',
    'in_device_batches',
    'in_device_superpackets',
    'reply_fragmentation_needed_packets',
    'reply_host_unreachable_packets',
    'reply_suppressed_packets',
    'note_icmp_errors_packets',
    'note_configuration_changes',
    'note_frames_packets',
    '',
  ],
  inbound: [
    'in_underlay_packets',
    'in_underlay_bytes',
    'out_device_packets',
    'out_device_bytes',
    'in_underlay_batches',
    'in_underlay_superpackets',
    // The inbound direction answers nobody, reads no ICMP and makes no frames.
    '',
    '',
    '',
    '',
    'note_configuration_changes',
    '',
    'note_hand_overs',
  ],
};

/** Rows of the per-peer table. */
export const PEER_PACKETS = 0;
export const PEER_BYTES = 1;
export const PEER_DROPS = 2;
/** Inbound: inner sources that were not this peer's to send. Outbound: the path MTU learned, 0 for none. */
export const PEER_EXTRA = 3;
const PEER_CELLS = 4;

/** Peers counted one by one; those in higher slots count together as slot 0. 5,000 nodes are the goal. */
export const COUNTED_PEERS = 16_384;

const CELLS = 64;

/** The shared memory of one direction. Peer pages are touched only as slots come into use. */
export function createCounterMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer((CELLS + COUNTED_PEERS * PEER_CELLS) * 8 + COUNTED_PEERS * 4);
}

/** One direction's counters over its shared memory. */
export class Counters {
  readonly direction: Direction;
  readonly memory: SharedArrayBuffer;
  readonly cells: Float64Array;
  readonly #peers: Float64Array;
  /** Address of the peer in each slot, 0 for none. */
  readonly #peerAddresses: Uint32Array;

  constructor(direction: Direction, memory: SharedArrayBuffer) {
    this.direction = direction;
    this.memory = memory;
    this.cells = new Float64Array(memory, 0, CELLS);
    this.#peers = new Float64Array(memory, CELLS * 8, COUNTED_PEERS * PEER_CELLS);
    this.#peerAddresses = new Uint32Array(memory, (CELLS + COUNTED_PEERS * PEER_CELLS) * 8, COUNTED_PEERS);
  }

  add(cell: number, amount: number): void {
    this.cells[cell]! += amount;
  }

  drop(reason: number, packets: number): void {
    this.cells[FIRST_DROP + reason]! += packets;
  }

  addPeer(slot: number, row: number, amount: number): void {
    const counted = slot < COUNTED_PEERS ? slot : 0;
    this.#peers[counted * PEER_CELLS + row]! += amount;
  }

  setPeer(slot: number, row: number, value: number): void {
    if (slot < COUNTED_PEERS) this.#peers[slot * PEER_CELLS + row] = value;
  }

  /** Starts a slot anew for `address`, or ends it with 0. */
  assignPeer(slot: number, address: number): void {
    if (slot >= COUNTED_PEERS || this.#peerAddresses[slot] === address) return;
    this.#peers.fill(0, slot * PEER_CELLS, (slot + 1) * PEER_CELLS);
    this.#peerAddresses[slot] = address;
  }

  /** Every counter of the direction by its name. */
  snapshot(): Record<string, number> {
    const result: Record<string, number> = {};
    for (const [name, cell] of CELL_NAMES[this.direction]) result[name] = this.cells[cell]!;
    return result;
  }

  /** Rows of the peers in use: [address, packets, bytes, drops, extra]. */
  peers(): readonly (readonly [number, number, number, number, number])[] {
    const rows: [number, number, number, number, number][] = [];
    for (let slot = 1; slot < COUNTED_PEERS; slot++) {
      const address = this.#peerAddresses[slot]!;
      if (address === 0) continue;
      const at = slot * PEER_CELLS;
      const p = this.#peers;
      rows.push([address, p[at]!, p[at + 1]!, p[at + 2]!, p[at + 3]!]);
    }
    return rows;
  }
}

export function dropNames(direction: Direction): readonly string[] {
  return direction === 'outbound' ? OUTBOUND_DROP_NAMES : INBOUND_DROP_NAMES;
}

/** Made once: the snapshot is taken several times a second where somebody watches. */
const CELL_NAMES: Readonly<Record<Direction, readonly (readonly [name: string, cell: number])[]>> = {
  outbound: cellNames('outbound'),
  inbound: cellNames('inbound'),
};

function cellNames(direction: Direction): (readonly [string, number])[] {
  const common = COMMON_NAMES[direction].flatMap((name, cell) =>
    name === '' ? [] : [[`${direction}_${name}`, cell] as const],
  );
  const drops = dropNames(direction).map(
    (name, reason) => [`${direction}_drop_${name}_packets`, FIRST_DROP + reason] as const,
  );
  return [...common, ...drops];
}

/** What conservation is violated by: in - out - drops, 0 where it holds. */
export function conservationGap(snapshot: Readonly<Record<string, number>>, direction: Direction): number {
  const [entry, exit] = direction === 'outbound' ? ['device', 'underlay'] : ['underlay', 'device'];
  const drops = Object.entries(snapshot)
    .filter(([name]) => name.startsWith(`${direction}_drop_`))
    .reduce((sum, [, count]) => sum + count, 0);
  return (
    snapshot[`${direction}_in_${entry}_packets`]! - snapshot[`${direction}_out_${exit}_packets`]! - drops
  );
}
