/**
 * One way out to the underlay: a sink with its batch, and whose each packet of the batch is. Protocol 4 and UDP
 * have a lane each; they differ in what a packet is to the kernel. By UDP consecutive datagrams of one size to
 * one peer become one packet (UDP_SEGMENT), so a superpacket, or a run of small packets, is one send; where the
 * kernel refuses that, they are taken apart and go one by one.
 */
import { NO_PEER } from '../fib/peer-table.ts';
import { IPV4_HEADER_BYTES, OVERHEAD_BYTES, type Transport } from '../ip/mtu.ts';
import {
  type Counters,
  OUT_BYTES,
  OUT_PACKETS,
  PEER_BYTES,
  PEER_DROPS,
  PEER_PACKETS,
  REPLY_SUPPRESSED,
} from './counters.ts';
import { Fragmentation } from './fragmentation.ts';
import { FRAME_HEADER_BYTES } from './frame-table.ts';
import {
  type MonotonicMs,
  type PacketMemory,
  type PacketSink,
  type PieceBatch,
  SEND_AGAIN,
  SEND_UNSEGMENTED,
  type Waiter,
} from './ports.ts';
import { MAX_SEGMENT_HEADER_BYTES } from './segmentation.ts';

/** How long a full socket buffer may hold up the direction before the packet is dropped. */
const SINK_WAIT_MS = 50;
/** Before a packet's inner header: its outer one and, in a frame of our own, what that has before it. */
export const OUTER_ROOM_BYTES = IPV4_HEADER_BYTES + FRAME_HEADER_BYTES;
/** Those, and a segment's inner headers. */
const SEGMENT_BLOB_BYTES = OUTER_ROOM_BYTES + MAX_SEGMENT_HEADER_BYTES + 4;
/** Slot of what is no inner packet's but our own answer to one. */
const TAG_REPLY = -1;
/** Kernel: UDP_MAX_SEGMENTS before Linux 6.3, and the largest UDP payload. */
const MAX_DATAGRAMS = 64;
const MAX_DATAGRAMS_BYTES = 65_507;
/** A device that cannot segment is not asked again before this; routes and devices do change. */
const UNSEGMENTED_MS = 10_000;

/** A record of a packet in the batch, in words: the peer's slot, or TAG_REPLY; */
const PACKET_SLOT = 0;
/** the inner packet (the first of several) that it came from, and how much of that may be quoted; */
const PACKET_INNER = 1;
const PACKET_QUOTABLE = 2;
/** how many inner packets are in it, and the bytes of all of them. */
const PACKET_DATAGRAMS = 3;
const PACKET_BYTES = 4;
const PACKET_WORDS = 5;

/** What the lane needs of its direction. */
export interface LaneParts {
  readonly memory: PacketMemory;
  readonly waiter: Waiter;
  readonly counters: Counters;
  readonly clock: MonotonicMs;
  /** Packet `packet` of `lane` was not taken by the host: answers its sender, returns the drop reason. */
  readonly onRefused: (lane: OuterLane, packet: number, failure: number) => number;
}

export class OuterLane {
  readonly transport: Transport;
  /** Bytes that the transport puts before an inner packet. */
  readonly overheadBytes: number;
  readonly fragmentation: Fragmentation;
  /** The sink's. */
  readonly batch: PieceBatch;
  readonly #sink: PacketSink;
  /** Which of the waiter's sinks this lane's is. */
  readonly #sinkNumber: number;
  readonly #parts: LaneParts;
  readonly #blobs: number;
  #blobsUsed = 0;
  /** Whether datagrams become one packet: not for a while after the kernel refused to segment. */
  #joins = true;
  #joinsFromMs = 0;
  readonly #packets: Int32Array;
  /** Of the last inner packet. */
  #lastBytes = 0;

  constructor(transport: Transport, sink: PacketSink, sinkNumber: number, parts: LaneParts) {
    const { packetCapacity, pieceCapacity } = sink.batch;
    this.transport = transport;
    this.overheadBytes = OVERHEAD_BYTES[transport];
    this.batch = sink.batch;
    this.#sink = sink;
    this.#sinkNumber = sinkNumber;
    this.#parts = parts;
    this.fragmentation = new Fragmentation(parts.memory, packetCapacity);
    this.#blobs = parts.memory.allocate(pieceCapacity * SEGMENT_BLOB_BYTES, 64);
    this.#packets = new Int32Array(packetCapacity * PACKET_WORDS);
  }

  /** Sends what is there where `pieces` more would not fit. */
  makeRoom(pieces: number): void {
    if (!this.batch.hasRoom(pieces)) this.flush();
  }

  /** Room for one segment's headers until the next flush; every segment has a piece, so there is one for each. */
  takeBlob(): number {
    return this.#blobs + this.#blobsUsed++ * SEGMENT_BLOB_BYTES;
  }

  /**
   * Completes a packet from the pieces added to the batch. `bytes`: of the inner packet that it carries; `inner`:
   * the one it comes from, of which an ICMP error may quote `quotable` bytes.
   */
  end(
    destination: number,
    slot: number,
    inner: number,
    quotable: number,
    bytes: number,
    port = 0,
    tos = 0,
  ): void {
    const at = this.batch.endPacket(destination, port, tos) * PACKET_WORDS;
    const packets = this.#packets;
    packets[at + PACKET_SLOT] = slot;
    packets[at + PACKET_INNER] = inner;
    packets[at + PACKET_QUOTABLE] = quotable;
    packets[at + PACKET_DATAGRAMS] = 1;
    packets[at + PACKET_BYTES] = bytes;
    this.#lastBytes = bytes;
  }

  /** The same for a datagram, which becomes part of the last packet where it continues that. */
  endDatagram(
    destination: number,
    port: number,
    tos: number,
    slot: number,
    inner: number,
    quotable: number,
    bytes: number,
  ): void {
    if (this.roomInLast(destination, port, tos, slot, bytes) > 0) this.extendLast(1, bytes, bytes);
    else this.end(destination, slot, inner, quotable, bytes, port, tos);
  }

  /** How many datagrams of `bytes` the last packet takes, if it goes there; 0: they begin a packet. */
  roomInLast(destination: number, port: number, tos: number, slot: number, bytes: number): number {
    const { batch } = this;
    const last = batch.packetCount - 1;
    if (last < 0 || !this.#joins) return 0;
    const at = last * PACKET_WORDS;
    const segmentBytes = batch.segmentBytes(last) || this.#lastBytes;
    if (
      this.#packets[at + PACKET_SLOT] !== slot ||
      batch.destination(last) !== (destination | 0) ||
      batch.port(last) !== port ||
      batch.tos(last) !== tos ||
      bytes > segmentBytes ||
      this.#lastBytes !== segmentBytes
    )
      return 0;
    const roomBytes = MAX_DATAGRAMS_BYTES - this.#packets[at + PACKET_BYTES]!;
    const room = Math.min(MAX_DATAGRAMS - this.#packets[at + PACKET_DATAGRAMS]!, (roomBytes / bytes) | 0);
    // All but the last are of one size, so a shorter one ends the packet.
    return bytes === segmentBytes ? room : Math.min(room, 1);
  }

  /** Gives the pieces added since the last packet to that: `count` datagrams of `bytes`, the last of which has `lastBytes`. */
  extendLast(count: number, bytes: number, lastBytes: number): void {
    const { batch } = this;
    const last = batch.packetCount - 1;
    const at = last * PACKET_WORDS;
    batch.extendPacket(batch.segmentBytes(last) || this.#lastBytes);
    this.#packets[at + PACKET_DATAGRAMS]! += count;
    this.#packets[at + PACKET_BYTES]! += (count - 1) * bytes + lastBytes;
    this.#lastBytes = lastBytes;
  }

  /** Sends the batch, and counts what left and what the host refused. */
  flush(): void {
    const { batch } = this;
    const count = batch.packetCount;
    if (count === 0) return;
    if (!this.#joins && this.#parts.clock() >= this.#joinsFromMs) this.#joins = true;
    const sent = this.#sink.send(0);
    for (let packet = 0; packet < sent; packet++) this.#countSent(packet);
    if (sent < count) this.#sendRest(sent);
    batch.clear();
    this.fragmentation.clear();
    this.#blobsUsed = 0;
  }

  /** From packet `next` on, which the host did not take. */
  #sendRest(next: number): void {
    const { batch } = this;
    let waited = false;
    while (next < batch.packetCount) {
      const { failure } = this.#sink;
      if (failure === SEND_AGAIN && !waited && this.#parts.waiter.waitForSink(SINK_WAIT_MS, this.#sinkNumber))
        waited = true;
      else if (failure === SEND_UNSEGMENTED && this.#packets[next * PACKET_WORDS + PACKET_DATAGRAMS]! > 1) {
        this.#takeApart(next);
        next = 0;
      } else this.#countRefused(next++, failure);
      if (next === batch.packetCount) return;
      const sent = this.#sink.send(next);
      for (let packet = next; packet < next + sent; packet++) this.#countSent(packet);
      next += sent;
      if (sent > 0) waited = false;
    }
  }

  /**
   * Makes the batch what is left of it from packet `from` on, each datagram a packet: the pieces stay where they
   * are. There is room, since such a batch takes as many packets as pieces.
   */
  #takeApart(from: number): void {
    const { batch } = this;
    this.#joins = false;
    this.#joinsFromMs = this.#parts.clock() + UNSEGMENTED_MS;
    const old = Array.from({ length: batch.packetCount - from }, (_, i) => ({
      slot: this.slot(from + i),
      inner: this.inner(from + i),
      quotable: this.quotable(from + i),
      firstPiece: batch.firstPiece(from + i),
      endPiece: batch.endPiece(from + i),
      destination: batch.destination(from + i),
      port: batch.port(from + i),
      tos: batch.tos(from + i),
      segmentBytes: batch.segmentBytes(from + i),
    }));
    batch.clear(batch.firstPiece(from));
    for (const packet of old) {
      let bytes = 0;
      for (let piece = packet.firstPiece; piece < packet.endPiece; piece++) {
        bytes += batch.length(piece);
        if (piece + 1 < packet.endPiece && bytes !== packet.segmentBytes) continue;
        batch.pieceCount = piece + 1;
        const { destination, slot, inner, quotable, port, tos } = packet;
        this.end(destination, slot, inner, quotable, bytes, port, tos);
        bytes = 0;
      }
    }
  }

  #countSent(packet: number): void {
    const at = packet * PACKET_WORDS;
    const slot = this.#packets[at + PACKET_SLOT]!;
    if (slot === TAG_REPLY) return;
    const { counters } = this.#parts;
    const datagrams = this.#packets[at + PACKET_DATAGRAMS]!;
    const bytes = this.#packets[at + PACKET_BYTES]!;
    counters.add(OUT_PACKETS, datagrams);
    counters.add(OUT_BYTES, bytes);
    counters.addPeer(slot, PEER_PACKETS, datagrams);
    counters.addPeer(slot, PEER_BYTES, bytes);
  }

  #countRefused(packet: number, failure: number): void {
    const { counters } = this.#parts;
    const slot = this.slot(packet);
    if (slot === TAG_REPLY) {
      counters.add(REPLY_SUPPRESSED, 1);
      return;
    }
    const datagrams = this.#packets[packet * PACKET_WORDS + PACKET_DATAGRAMS]!;
    counters.drop(this.#parts.onRefused(this, packet, failure), datagrams);
    if (slot !== NO_PEER) counters.addPeer(slot, PEER_DROPS, datagrams);
  }

  /** The peer that packet `packet` goes to. */
  slot(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_SLOT]!;
  }

  /** The inner packet (the first of several) that it came from, and how much of that may be quoted. */
  inner(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_INNER]!;
  }

  quotable(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_QUOTABLE]!;
  }

  /** Bytes of the largest inner packet that it carries. */
  innerBytes(packet: number): number {
    return this.batch.segmentBytes(packet) || this.#packets[packet * PACKET_WORDS + PACKET_BYTES]!;
  }

  /** Marks all that is in the batch as answers of ours, which belong to no peer. */
  markReplies(): void {
    for (let packet = 0; packet < this.batch.packetCount; packet++)
      this.#packets[packet * PACKET_WORDS + PACKET_SLOT] = TAG_REPLY;
  }
}
