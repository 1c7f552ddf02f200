/**
 * Theory of operation: outbound, from the TUN to the underlay. One call of `step` runs one batch to completion:
 *
 *   1. `source.receive` reads what the host routed into the device, each packet behind its virtio-net header;
 *   2. `#decide` looks at each packet once: is it whole, may it travel, which peer has its destination, and by
 *      which lane that is reached (outer-lane.ts): protocol 4, or UDP. The way found is kept for the next packet of
 *      the same addresses, until a table changes;
 *   3. `#encapsulate` writes the outer header into the slot's headroom, right before the packet, over the
 *      virtio-net header: one piece, nothing copied. A superpacket (64 KB of one flow under one header) is cut
 *      into segments (segmentation.ts), and what is larger than the path takes and may be fragmented into
 *      fragments (fragmentation.ts): header blobs, and payload by reference. By UDP the kernel writes the outer
 *      headers, and segments of one size are one send;
 *   4. each lane's `flush` sends all with one sendmmsg, and counts what left and what the host refused;
 *   5. answers to inner senders (inner-replies.ts) leave after the packets they are about.
 *
 * Every packet that does not leave is counted under a drop reason, by reason and by peer. Between two calls
 * nothing is in flight, so the table may change there and conservation holds there.
 *
 * The inner header is not touched: the kernel decremented the TTL when it routed the packet to us, so the TTL
 * is not decremented again (RFC 2003 §3.1 has it once). Outer header: TTL 64, DSCP and ECN copied (RFC 6040
 * normal mode), DF copied, id 0 (with DF it needs none, RFC 6864 §4.1; without, the kernel fills it in). By UDP
 * DF is always set, which RFC 2003 §3.1 leaves to us: an inner packet without DF is fragmented before.
 */
// size: one class, whose every step reads and writes the packet in hand.
import { type ForwardingTable, INNER_DESTINATION, NO_ROUTE } from '../fib/forwarding-table.ts';
import { NO_PEER, TRANSPORT_IPIP, TRANSPORT_UDP } from '../fib/peer-table.ts';
import { IPV4_HEADER_BYTES, MIN_MTU } from '../ip/mtu.ts';
import { readI32, writeU16 } from '../wire/bytes.ts';
import { sumBytes } from '../wire/checksum.ts';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.ts';
import { ICMP_MIN_QUOTED_PAYLOAD_BYTES } from '../wire/icmpv4.ts';
import {
  checkIpv4,
  IPV4_DF,
  IPV4_MAX_PACKET_BYTES,
  IPV4_NOT_VERSION_4,
  IPV4_OFF_DESTINATION,
  IPV4_OFF_ID,
  IPV4_OFF_SOURCE,
  IPV4_OFF_TTL,
  IPV4_OK,
  ipv4DontFragment,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Tos,
  ipv4TotalLength,
  isPlainIpv4,
  PROTOCOL_IPIP,
  writeTunnelHeader,
} from '../wire/ipv4.ts';
import {
  GSO_NONE,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  vnetChecksumOffset,
  vnetChecksumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
} from '../wire/virtio-net-header.ts';
import {
  type Counters,
  IN_BATCHES,
  IN_BYTES,
  IN_PACKETS,
  IN_SUPERPACKETS,
  NOTE_FRAMES,
  OUTBOUND_LOOP_LOCAL,
  OUTBOUND_LOOP_NESTED,
  OUTBOUND_MALFORMED,
  OUTBOUND_NO_PEER,
  OUTBOUND_NO_ROUTE,
  OUTBOUND_NO_TRANSPORT,
  OUTBOUND_NOT_IPV4,
  OUTBOUND_TOO_BIG,
  OUTBOUND_TTL_ZERO,
  PEER_DROPS,
} from './counters.ts';
import { encapsulatedTos } from './ecn.ts';
import { FRAME_HEADER_BYTES, type FrameTable } from './frame-table.ts';
import { reportedPathMtu } from './icmp-errors.ts';
import { InnerReplies } from './inner-replies.ts';
import { type LaneParts, OUTER_ROOM_BYTES, OuterLane } from './outer-lane.ts';
import type { PathState } from './path-state.ts';
import {
  type MonotonicMs,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  SEND_AGAIN,
  SEND_NO_ROUTE,
  SEND_TOO_BIG,
  type Waiter,
} from './ports.ts';
import { Segmenter, type SumBytes } from './segmentation.ts';
import { dropReason } from './send-failure.ts';
import type { UnroutedHold } from './unrouted-hold.ts';

/** RFC 1853 and RFC 2003 leave it to us: enough for every underlay, and not the inner TTL, which traceroute reads. */
const OUTER_TTL = 64;
const OUTER_TTL_AND_PROTOCOL = (OUTER_TTL << 8) | PROTOCOL_IPIP;
/** A next hop that is no peer of the configuration has no MTU of its own: the kernel's answer decides. */
const UNLIMITED_MTU = 65_535;
/** What `#decide` returns where it is no drop reason. */
const FORWARDED = -1;
/** No count of changes. */
const NEVER = -1;
/** What the waiter counts as which sink. */
const RAW_SINK = 0;
const DATAGRAM_SINK = 1;
const FRAME_SINK = 2;

export interface OutboundParts {
  readonly memory: PacketMemory;
  readonly source: PacketSource;
  /** Protocol 4, and our answers to inner senders. */
  readonly sink: PacketSink;
  /** The `udp` transport, where it may be used. It takes as many packets as pieces. */
  readonly datagramSink?: PacketSink | undefined;
  /** Protocol 4 is not to be sent: a route without gateway, whose far end we know nothing of, then leads nowhere. */
  readonly datagramsOnly?: boolean;
  /** Protocol 4 as frames of our own, to the peers of `frames`. */
  readonly frameSink?: PacketSink | undefined;
  readonly frames?: FrameTable | undefined;
  readonly waiter: Waiter;
  readonly table: ForwardingTable;
  readonly paths: PathState;
  readonly counters: Counters;
  readonly clock: MonotonicMs;
  /** A faster sum over the memory than the plain loop, where there is one. */
  readonly sum?: SumBytes | undefined;
  /** Where packets without a route wait for one; without it they are dropped at once. */
  readonly hold?: UnroutedHold;
  /** Takes in what routers have said by now about packets of ours. */
  readonly hearErrors?: () => void;
}

export class Outbound {
  readonly replies: InnerReplies;
  readonly #bytes: Uint8Array;
  readonly #words: DataView;
  readonly #source: PacketSource;
  readonly #rawLane: OuterLane;
  readonly #datagramLane: OuterLane | undefined;
  readonly #frameLane: OuterLane | undefined;
  readonly #frames: FrameTable | undefined;
  readonly #clock: MonotonicMs;
  readonly #table: ForwardingTable;
  readonly #paths: PathState;
  readonly #counters: Counters;
  readonly #sum: SumBytes;
  readonly #segmenter: Segmenter;
  readonly #hold: UnroutedHold | undefined;
  readonly #datagramsOnly: boolean;
  readonly #hearErrors: (() => void) | undefined;
  /** Where a segment lies in one piece while it is cut into fragments. */
  readonly #wholeSegment: number;
  /** Of the packet in hand: peer, lane, where it goes, and how many packets on the wire it is. */
  #slot = NO_PEER;
  #lane: OuterLane;
  #destination = 0;
  #port = 0;
  #segments = 1;
  /**
   * The way that the last packet took, and what it was found by: most packets follow one that went there, and what is asked to
   * find a way lies in a dozen places.
   */
  #routedSource = 0;
  #routedDestination = 0;
  #routedChanges = NEVER;
  #routedSlot = NO_PEER;
  #routedLane: OuterLane;
  #isFramed = false;
  /** The largest inner packet that it takes in one piece. */
  #innerMtu = 0;
  /** When the batch in hand was received; kept only where there are frames. No integer, which V8 would take it for, and recompile. */
  #batchMs = Number.NEGATIVE_INFINITY;

  constructor(parts: OutboundParts) {
    const { bytes } = parts.memory;
    this.#bytes = bytes;
    this.#words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#source = parts.source;
    const laneParts: LaneParts = {
      memory: parts.memory,
      waiter: parts.waiter,
      counters: parts.counters,
      clock: parts.clock,
      onRefused: (lane, packet, failure) => this.#refused(lane, packet, failure),
    };
    this.#rawLane = new OuterLane('ipip', parts.sink, RAW_SINK, laneParts);
    this.#datagramLane =
      parts.datagramSink && new OuterLane('udp', parts.datagramSink, DATAGRAM_SINK, laneParts);
    this.#frameLane = parts.frameSink && new OuterLane('ipip', parts.frameSink, FRAME_SINK, laneParts);
    this.#frames = parts.frames;
    this.#clock = parts.clock;
    this.#lane = this.#rawLane;
    this.#routedLane = this.#rawLane;
    this.#datagramsOnly = parts.datagramsOnly ?? false;
    this.#table = parts.table;
    this.#paths = parts.paths;
    this.#counters = parts.counters;
    this.replies = new InnerReplies(parts.memory, parts.counters, parts.clock);
    this.#sum = parts.sum ?? ((offset, length, initial) => sumBytes(this.#bytes, offset, length, initial));
    this.#hold = parts.hold;
    this.#hearErrors = parts.hearErrors;
    this.#segmenter = new Segmenter(parts.memory.bytes, this.#sum);
    this.#wholeSegment = parts.memory.allocate(IPV4_MAX_PACKET_BYTES + 1, 64);
  }

  /** Runs one batch, of `most` packets at most; returns how many it read, 0 where there were none. */
  step(most = this.#source.batch.capacity): number {
    const { batch } = this.#source;
    const count = this.#source.receive(most);
    if (count === 0) return 0;
    this.#counters.add(IN_BATCHES, 1);
    if (this.#frames?.used) this.#batchMs = this.#clock();
    for (let i = 0; i < count; i++) this.#takePacket(batch.offset(i), batch.length(i));
    if (count === 1) this.#flushLane(this.#lane);
    else this.#flush();
    this.sendReplies();
    return count;
  }

  #takePacket(at: number, length: number): void {
    const reason = this.#decide(at, length);
    if (reason === FORWARDED || (reason === OUTBOUND_NO_ROUTE && this.#held(at, length))) return;
    this.#drop(reason);
  }

  /** Tries what waits for a route again: after a change of the table, and when its time is up; `endNow` at the end. */
  retryHeld(endNow = false): void {
    if (this.#hold === undefined || this.#hold.count === 0) return;
    this.#hold.offer((at, length, last) => {
      const reason = this.#decide(at, length);
      if (reason === OUTBOUND_NO_ROUTE && !last) {
        this.#uncount(length);
        return false;
      }
      if (reason !== FORWARDED) this.#drop(reason);
      return true;
    }, endNow);
    this.#flush();
    this.sendReplies();
  }

  #held(at: number, length: number): boolean {
    if (this.#hold === undefined || !this.#hold.keep(at, length)) return false;
    this.#uncount(length);
    return true;
  }

  /** A packet that waits has not entered yet. */
  #uncount(length: number): void {
    this.#counters.add(IN_BYTES, VIRTIO_NET_HEADER_BYTES - length);
  }

  /** Sends the answers that are queued. */
  sendReplies(): void {
    if (this.replies.count === 0) return;
    this.replies.emit(this.#rawLane.batch, this.#table.local.outerSource);
    this.#rawLane.markReplies();
    this.#flush();
  }

  /** `at` is the virtio-net header; the packet follows. Returns FORWARDED or a drop reason. */
  #decide(at: number, readBytes: number): number {
    const words = this.#words;
    const inner = at + VIRTIO_NET_HEADER_BYTES;
    const length = readBytes - VIRTIO_NET_HEADER_BYTES;
    this.#slot = NO_PEER;
    this.#segments = 1;
    this.#counters.add(IN_BYTES, length > 0 ? length : 0);
    if (!isPlainIpv4(words, inner, length)) {
      const check = checkIpv4(this.#bytes, inner, length);
      if (check !== IPV4_OK) return check === IPV4_NOT_VERSION_4 ? OUTBOUND_NOT_IPV4 : OUTBOUND_MALFORMED;
    }
    const ttls = words.getInt32(inner + IPV4_OFF_TTL);
    // RFC 2003 §3.1: a packet whose TTL is 0 is not encapsulated.
    if (ttls >>> 24 === 0) return OUTBOUND_TTL_ZERO;
    const isNested = ((ttls >>> 16) & 0xff) === PROTOCOL_IPIP;
    if (isNested && this.#isOwnPacket(inner)) return OUTBOUND_LOOP_NESTED;
    const destination = words.getInt32(inner + IPV4_OFF_DESTINATION);
    const source = words.getInt32(inner + IPV4_OFF_SOURCE);
    if (!isNested && this.#isAsBefore(source, destination)) this.#slot = this.#routedSlot;
    else {
      const reason = this.#route(inner, source, destination);
      if (reason !== FORWARDED) return reason;
    }
    if (!this.#isFramed || !ipv4DontFragment(this.#bytes, inner))
      return this.#encapsulate(this.#routedLane, inner);
    return this.#encapsulateInFrame(inner);
  }

  /** Whether the packet goes where the one before it went: nothing has changed since. */
  #isAsBefore(source: number, destination: number): boolean {
    return (
      source === this.#routedSource &&
      destination === this.#routedDestination &&
      this.#routedChanges === this.#changes()
    );
  }

  #changes(): number {
    return this.#table.changes + this.#paths.changes + (this.#frames?.changes ?? 0);
  }

  /**
   * Finds the way of the packet at `inner`, and keeps it for the next packet of these addresses unless it may end by
   * itself. Returns FORWARDED or a drop reason.
   */
  #route(inner: number, source: number, destination: number): number {
    this.#routedChanges = NEVER;
    this.#routedSource = source;
    this.#routedDestination = destination;
    const { peers, local } = this.#table;
    const hop = this.#table.nextHop(destination, source);
    if (hop === NO_ROUTE) return OUTBOUND_NO_ROUTE;
    const gateway = hop === INNER_DESTINATION ? destination : peers.address(hop);
    if (local.has(gateway)) return OUTBOUND_LOOP_LOCAL;
    this.#destination = gateway;
    this.#isFramed = false;
    if (hop === INNER_DESTINATION) {
      if (this.#datagramsOnly) return OUTBOUND_NO_TRANSPORT;
      if (this.#isRepeated(inner)) return OUTBOUND_LOOP_NESTED;
      return this.#take(this.#rawLane, peers.slotOf(destination), UNLIMITED_MTU, inner);
    }
    this.#slot = hop;
    if (!peers.isKnown(hop)) return OUTBOUND_NO_PEER;
    const transport = peers.transport(hop);
    if (transport === TRANSPORT_UDP && this.#datagramLane !== undefined) {
      this.#port = peers.udpPort(hop);
      return this.#take(this.#datagramLane, hop, peers.mtu(hop), inner);
    }
    if (transport !== TRANSPORT_IPIP) return OUTBOUND_NO_TRANSPORT;
    this.#isFramed = this.#frames?.used === true && this.#frames.interfaceOf(hop) > 0;
    return this.#take(this.#rawLane, hop, peers.mtu(hop), inner);
  }

  /** The end of `#route`: the way is by `lane` to the peer of `slot`. */
  #take(lane: OuterLane, slot: number, configuredMtu: number, inner: number): number {
    const mtu = this.#paths.effectiveMtu(slot, configuredMtu);
    this.#slot = slot;
    this.#routedSlot = slot;
    this.#routedLane = lane;
    this.#innerMtu = Math.max(mtu - lane.overheadBytes, MIN_MTU);
    // Each error is told once, and a path MTU that was learned ends with time.
    if (this.#paths.takeUnreachable(slot))
      this.replies.hostUnreachable(inner, ipv4TotalLength(this.#bytes, inner));
    else if (mtu === configuredMtu) this.#routedChanges = this.#changes();
    return FORWARDED;
  }

  /** Only with DF: without, the kernel has to give the outer packet an id. */
  #encapsulateInFrame(inner: number): number {
    if (!this.#frames!.isKernelsTurn(this.#slot, this.#batchMs))
      return this.#encapsulate(this.#frameLane!, inner);
    const reason = this.#encapsulate(this.#rawLane, inner);
    // At once, so that the frames which follow do not overtake it.
    this.#rawLane.flush();
    return reason;
  }

  /**
   * RFC 2003 §3.2: nothing of ours is encapsulated again, which would happen where the outer packet is routed
   * back into the device: its source is ours, or its destination is a peer.
   */
  #isOwnPacket(inner: number): boolean {
    const view = this.#bytes;
    if (this.#table.local.has(readI32(view, inner + IPV4_OFF_SOURCE))) return true;
    const { peers } = this.#table;
    return peers.isKnown(peers.slotOf(readI32(view, inner + IPV4_OFF_DESTINATION)));
  }

  /** The same for a route without gateway, where the outer packet has the inner one's destination. */
  #isRepeated(inner: number): boolean {
    const view = this.#bytes;
    if (ipv4Protocol(view, inner) !== PROTOCOL_IPIP) return false;
    const headerBytes = ipv4HeaderBytes(view, inner);
    if (ipv4TotalLength(view, inner) < headerBytes + IPV4_HEADER_BYTES) return false;
    return (
      readI32(view, inner + headerBytes + IPV4_OFF_DESTINATION) ===
      readI32(view, inner + IPV4_OFF_DESTINATION)
    );
  }

  #encapsulate(lane: OuterLane, inner: number): number {
    const vnet = inner - VIRTIO_NET_HEADER_BYTES;
    const innerBytes = this.#words.getInt32(inner) & 0xffff;
    const innerMtu = this.#innerMtu;
    this.#lane = lane;
    // Flags and type of segmentation: most single packets that are no TCP have neither.
    if (this.#words.getInt16(vnet) !== 0) {
      const view = this.#bytes;
      const gsoType = vnetGsoType(view, vnet);
      if (gsoType !== GSO_NONE) return this.#segment(innerMtu, inner, gsoType, vnetGsoSize(view, vnet));
      if ((vnetFlags(view, vnet) & VNET_NEEDS_CHECKSUM) !== 0) this.#finishChecksum(vnet);
    }
    if (innerBytes > innerMtu) {
      if (!ipv4DontFragment(this.#bytes, inner)) return this.#fragment(innerMtu, inner, inner);
      this.replies.fragmentationNeeded(inner, innerBytes, innerMtu);
      return OUTBOUND_TOO_BIG;
    }
    this.#counters.add(IN_PACKETS, 1);
    lane.makeRoom(1);
    this.#emit(inner, innerBytes, 0, 0, inner, innerBytes);
    return FORWARDED;
  }

  /**
   * Adds one packet: its `headerBytes` at `header`, before which the outer header has room, and its payload.
   * `quotable`: how much of the packet at `inner` an ICMP error may quote.
   */
  #emit(
    header: number,
    headerBytes: number,
    payload: number,
    payloadBytes: number,
    inner: number,
    quotable: number,
  ): void {
    const lane = this.#lane;
    const { batch } = lane;
    const bytes = headerBytes + payloadBytes;
    let before = 0;
    if (lane !== this.#datagramLane) {
      before = IPV4_HEADER_BYTES;
      this.#writeOuterHeader(header - before, header, bytes, this.#destination);
    }
    if (lane === this.#frameLane) {
      const frameBytes = ETHERNET_HEADER_BYTES + before + bytes;
      before += FRAME_HEADER_BYTES;
      this.#frames!.writeHeader(this.#slot, this.#words, header - before, frameBytes);
    }
    batch.addPiece(header - before, before + headerBytes);
    if (payloadBytes > 0) batch.addPiece(payload, payloadBytes);
    if (lane === this.#rawLane) lane.end(this.#destination, this.#slot, inner, quotable, bytes);
    else if (lane === this.#frameLane) {
      this.#counters.add(NOTE_FRAMES, 1);
      lane.end(this.#frames!.interfaceOf(this.#slot), this.#slot, inner, quotable, bytes);
    } else {
      const tos = encapsulatedTos(ipv4Tos(this.#bytes, header));
      lane.endDatagram(this.#destination, this.#port, tos, this.#slot, inner, quotable, bytes);
    }
  }

  /** A superpacket: headers anew for each segment, in blobs; payload by reference. */
  #segment(innerMtu: number, inner: number, gsoType: number, gsoSize: number): number {
    const segmenter = this.#segmenter;
    const lane = this.#lane;
    const segments = segmenter.begin(inner, ipv4TotalLength(this.#bytes, inner), gsoType, gsoSize);
    if (segments === 0) return OUTBOUND_MALFORMED;
    this.#segments = segments;
    this.#counters.add(IN_SUPERPACKETS, 1);
    const { headerBytes } = segmenter;
    if (headerBytes + gsoSize > innerMtu) {
      if (!ipv4DontFragment(this.#bytes, inner)) return this.#segmentAndFragment(segments, innerMtu, inner);
      this.replies.fragmentationNeeded(inner, headerBytes, innerMtu);
      return OUTBOUND_TOO_BIG;
    }
    this.#counters.add(IN_PACKETS, segments);
    if (lane === this.#datagramLane) {
      this.#emitDatagrams(lane, segments, inner);
      return FORWARDED;
    }
    for (let i = 0; i < segments; i++) {
      lane.makeRoom(2);
      const header = lane.takeBlob() + OUTER_ROOM_BYTES;
      segmenter.writeHeaders(header);
      this.#emit(header, headerBytes, segmenter.payloadOffset, segmenter.payloadBytes, inner, headerBytes);
    }
    return FORWARDED;
  }

  /** The segments that the segmenter has begun, as many at a time as one packet of the lane takes. */
  #emitDatagrams(lane: OuterLane, segments: number, inner: number): void {
    const segmenter = this.#segmenter;
    const { batch } = lane;
    const { headerBytes } = segmenter;
    const slot = this.#slot;
    const [destination, port] = [this.#destination, this.#port];
    const tos = encapsulatedTos(ipv4Tos(this.#bytes, inner));
    for (let left = segments; left > 0; ) {
      lane.makeRoom(2);
      const bytes = headerBytes + segmenter.nextPayloadBytes;
      const room = lane.roomInLast(destination, port, tos, slot, bytes);
      const count = Math.min(left, room || 1, (batch.pieceCapacity - batch.pieceCount) >>> 1);
      for (let i = 0; i < count; i++) {
        const header = lane.takeBlob() + OUTER_ROOM_BYTES;
        segmenter.writeHeaders(header);
        batch.addPiece(header, headerBytes);
        if (segmenter.payloadBytes > 0) batch.addPiece(segmenter.payloadOffset, segmenter.payloadBytes);
      }
      if (room > 0) lane.extendLast(count, bytes, headerBytes + segmenter.payloadBytes);
      else lane.end(destination, slot, inner, headerBytes, bytes, port, tos);
      left -= count;
    }
  }

  /**
   * A superpacket without DF whose segments the path does not take: each is put together and cut into fragments,
   * as the kernel's tunnel would. Rare enough to be copied, and to be sent one by one.
   */
  #segmentAndFragment(segments: number, innerMtu: number, inner: number): number {
    const view = this.#bytes;
    const segmenter = this.#segmenter;
    const { headerBytes } = segmenter;
    const segment = this.#wholeSegment;
    for (let i = 0; i < segments; i++) {
      segmenter.writeHeaders(segment);
      const { payloadOffset, payloadBytes } = segmenter;
      view.copyWithin(segment + headerBytes, payloadOffset, payloadOffset + payloadBytes);
      this.#segments = 1;
      const reason = this.#fragment(innerMtu, segment, inner);
      if (reason !== FORWARDED) this.#drop(reason);
      this.#lane.flush();
    }
    return FORWARDED;
  }

  #writeOuterHeader(outer: number, inner: number, innerBytes: number, destination: number): void {
    const words = this.#words;
    writeTunnelHeader(
      words,
      outer,
      encapsulatedTos((words.getInt32(inner) >>> 16) & 0xff),
      innerBytes + IPV4_HEADER_BYTES,
      words.getInt32(inner + IPV4_OFF_ID) & IPV4_DF,
      OUTER_TTL_AND_PROTOCOL,
      this.#table.local.outerSource | 0,
      destination | 0,
    );
  }

  /** Inner fragments, each encapsulated by itself: the exit needs to reassemble nothing (RFC 4459 §3.4). */
  #fragment(innerMtu: number, packet: number, inner: number): number {
    const view = this.#bytes;
    const lane = this.#lane;
    const { batch, fragmentation } = lane;
    const fragments = fragmentation.countFragments(view, packet, innerMtu);
    if (fragments === 0) return OUTBOUND_TOO_BIG;
    // Blobs are as many as the batch holds packets, so a batch begun anew has room for both.
    if (batch.packetCount + fragments > batch.packetCapacity || !fragmentation.hasRoom(fragments))
      lane.flush();
    lane.makeRoom(fragments * 2);
    if (!batch.hasRoom(fragments * 2) || fragments > batch.packetCapacity) return OUTBOUND_TOO_BIG;
    this.#counters.add(IN_PACKETS, fragments);
    // A superpacket is quoted by its headers only.
    const quotable =
      packet === inner
        ? ipv4TotalLength(view, inner)
        : ipv4HeaderBytes(view, inner) + ICMP_MIN_QUOTED_PAYLOAD_BYTES;
    for (let i = 0; i < fragments; i++) {
      fragmentation.prepare(view, packet, innerMtu, i, IPV4_HEADER_BYTES);
      const { header, headerBytes, payload, payloadBytes } = fragmentation;
      this.#emit(header, headerBytes, payload, payloadBytes, inner, quotable);
    }
    return FORWARDED;
  }

  #flush(): void {
    this.#flushLane(this.#rawLane);
    if (this.#frameLane !== undefined) this.#flushLane(this.#frameLane);
    if (this.#datagramLane !== undefined) this.#flushLane(this.#datagramLane);
  }

  #flushLane(lane: OuterLane): void {
    lane.batch.source = this.#table.local.outerSource;
    lane.flush();
  }

  /** The host did not take packet `packet` of `lane`: tells its sender where that helps; returns the drop reason. */
  #refused(lane: OuterLane, packet: number, failure: number): number {
    const slot = lane.slot(packet);
    const inner = lane.inner(packet);
    const quotable = lane.quotable(packet);
    if (failure === SEND_TOO_BIG) {
      // The kernel may have heard, in the middle of this very batch, what a router says of the packets before.
      this.#hearErrors?.();
      const bytes = lane.innerBytes(packet) + lane.overheadBytes;
      const heard = slot > 0 ? this.#paths.effectiveMtu(slot, bytes) : bytes;
      // Else the link is smaller than configured and the kernel does not say by how much: the plateau below.
      const mtu = heard < bytes ? heard : reportedPathMtu(0, bytes);
      if (slot > 0) this.#paths.learnMtu(slot, mtu);
      // What may be fragmented is, from the next packet on.
      if (ipv4DontFragment(this.#bytes, inner))
        this.replies.fragmentationNeeded(inner, quotable, Math.max(mtu - lane.overheadBytes, MIN_MTU));
    }
    if (failure === SEND_NO_ROUTE) this.replies.hostUnreachable(inner, quotable);
    // The kernel knows better, until a new way is found.
    if (lane === this.#frameLane && failure !== SEND_AGAIN) this.#frames!.forget(slot);
    return dropReason(failure);
  }

  /** Completes the checksum that the kernel left to an offload: the field holds the pseudo-header's sum. */
  #finishChecksum(vnet: number): void {
    const view = this.#bytes;
    const packet = vnet + VIRTIO_NET_HEADER_BYTES;
    const start = vnetChecksumStart(view, vnet);
    const length = ipv4TotalLength(view, packet) - start;
    const field = packet + start + vnetChecksumOffset(view, vnet);
    if (length < 2 || field + 2 > packet + start + length) return;
    const check = ~this.#sum(packet + start, length, 0) & 0xffff;
    // RFC 768: a computed 0 is sent as all ones. For TCP both mean the same.
    writeU16(view, field, check === 0 ? 0xffff : check);
  }

  #drop(reason: number): void {
    this.#counters.add(IN_PACKETS, this.#segments);
    this.#counters.drop(reason, this.#segments);
    if (this.#slot !== NO_PEER) this.#counters.addPeer(this.#slot, PEER_DROPS, this.#segments);
  }
}
