/**
 * Theory of operation: inbound, from the underlay to the TUN. One call of `step` runs one batch to completion:
 *
 *   1. `source.receive` brings packets of protocol 4 with their outer headers, reassembled by the kernel; or
 *      `stepDatagrams` the payload of datagrams, many of one size in a slot (UDP_GRO), their outer headers as
 *      the socket tells them;
 *   2. `#decide` checks the outer header, who sent it, that the inner packet is whole, and that its source is
 *      that sender's to use (source-table.ts);
 *   3. decapsulation is in place: the inner packet stays, and a virtio-net header is written right before it,
 *      over the end of the outer header; ECN goes from outer to inner (RFC 6040);
 *   4. packets of one flow become one superpacket by the kernel's own rules (coalescing.ts), so that a stream
 *      costs one write for many packets. A packet that came as the one before it did, and continues that one's run,
 *      is joined to it without 2 and 3: what they ask has the same answer. What comes alone goes past it
 *      (lone-packet.ts);
 *   5. `#flush` writes each run to the TUN, and counts what the device took and what it refused.
 *
 * What kernel offloads leave is handled, not assumed away. A peer on veth, or GRO on our NIC, hands us packets
 * whose inner checksum is partial and that may be 64 KB long, and a raw socket says neither. Partial is
 * recognised by its value, the pseudo-header's sum: a right checksum has it once in 65,536 packets, and then
 * finishing it gives the same. A partial TCP packet larger than the path's MTU is a superpacket, and goes on as
 * one with the segment size of a full path. One with a complete checksum was reassembled from outer fragments
 * and goes on as it is.
 */

import { NO_PEER } from '../fib/peer-table.ts';
import type { SourceTable } from '../fib/source-table.ts';
import {
  SOURCE_ACCEPTED,
  SOURCE_IN_GRACE,
  SOURCE_INNER_FOREIGN,
  SOURCE_INNER_LOCAL,
  SOURCE_INNER_UNKNOWN,
} from '../fib/source-table.ts';
import { OVERHEAD_BYTES } from '../ip/mtu.ts';
import { readI32 } from '../wire/bytes.ts';
import { isPartial, pseudoHeaderSum } from '../wire/checksum.ts';
import {
  checkIpv4,
  IPV4_MIN_HEADER_BYTES,
  IPV4_NOT_VERSION_4,
  IPV4_OFF_DESTINATION,
  IPV4_OFF_PROTOCOL,
  IPV4_OFF_SOURCE,
  IPV4_OFF_TOS,
  IPV4_OFF_TOTAL_LENGTH,
  IPV4_OK,
  ipv4HeaderBytes,
  ipv4IsFragment,
  ipv4Protocol,
  isFragmentIn,
  isPlainIpv4,
  PROTOCOL_IPIP,
  PROTOCOL_UDP,
  setIpv4Tos,
} from '../wire/ipv4.ts';
import { UDP_OFF_CHECKSUM } from '../wire/udp.ts';
import { VIRTIO_NET_HEADER_BYTES } from '../wire/virtio-net-header.ts';
import { CHECKSUM_UNVERIFIED } from './coalesced-run.ts';
import { Coalescer } from './coalescing.ts';
import {
  type Counters,
  IN_BATCHES,
  IN_BYTES,
  IN_PACKETS,
  IN_SUPERPACKETS,
  INBOUND_DEVICE_DOWN,
  INBOUND_DEVICE_FULL,
  INBOUND_DEVICE_REFUSED,
  INBOUND_ECN_CONGESTION,
  INBOUND_INNER_MALFORMED,
  INBOUND_INNER_NOT_IPV4,
  INBOUND_INNER_SOURCE_FOREIGN,
  INBOUND_INNER_SOURCE_LOCAL,
  INBOUND_INNER_SOURCE_UNKNOWN,
  INBOUND_LOOP_NESTED,
  INBOUND_OUTER_MALFORMED,
  INBOUND_OUTER_NOT_FOR_US,
  INBOUND_OUTER_SOURCE_UNKNOWN,
  INBOUND_SEGMENT_SIZE_UNKNOWN,
  OUT_BYTES,
  OUT_PACKETS,
  PEER_BYTES,
  PEER_DROPS,
  PEER_EXTRA,
  PEER_PACKETS,
} from './counters.ts';
import { decapsulatedTos, ECN_DROP } from './ecn.ts';
import { writeLoneHeader } from './lone-packet.ts';
import { type PacketMemory, type PacketSink, type PacketSource, SEND_AGAIN, SEND_DOWN } from './ports.ts';
import type { SumBytes } from './segmentation.ts';

/** What `#decide` returns where it is no drop reason. */
const FORWARDED = -1;
/** No count of changes. */
const NEVER = -1;
/** Packets that may wait to be coalesced: several slots' worth of datagrams. */
const COALESCED_PACKETS = 512;
/** Segment size for a sender whose path MTU nobody configured: every link of today carries it. */
const DEFAULT_UNDERLAY_MTU = 1400;

export interface InboundParts {
  readonly memory: PacketMemory;
  readonly source: PacketSource;
  /** Datagrams of the `udp` transport, where they are taken. */
  readonly datagrams?: PacketSource | undefined;
  readonly sink: PacketSink;
  readonly table: SourceTable;
  readonly counters: Counters;
  /** Whether the TUN takes UDP superpackets (USO, Linux 6.2). */
  readonly udpSuperpackets: boolean;
  /** A faster sum over the memory than the plain loop, where there is one. */
  readonly sum?: SumBytes | undefined;
}

export class Inbound {
  readonly #bytes: Uint8Array;
  readonly #words: DataView;
  readonly #source: PacketSource;
  readonly #datagrams: PacketSource | undefined;
  readonly #sink: PacketSink;
  readonly #table: SourceTable;
  readonly #counters: Counters;
  readonly #coalescer: Coalescer;
  /** Whether the packet in hand is all that there is, and its bytes where it goes to the device as it is. */
  #isLone = false;
  #loneBytes = 0;
  /** Runs that are tagged with the peer that their first packet came from. */
  #runs = 0;
  /** Peer of the packet in hand, and how many packets on the wire it stands for. */
  #slot = NO_PEER;
  #segments = 1;
  /** Its outer header. */
  #outerSource = 0;
  #outerDestination = 0;
  #outerTos = 0;
  /** Whether the packet before was forwarded, so that the next one may be joined to it. */
  #forwarded = false;
  /**
   * Where the last packet came from, and what that was found to be: most packets follow one of their own sender, and what is
   * asked about it lies in a dozen places. `#knownSource` is an inner source that it may send, where `#isKnownSource`.
   */
  #knownChanges = NEVER;
  #knownOuterSource = 0;
  #knownOuterDestination = 0;
  #knownSlot = NO_PEER;
  #knownMtu = 0;
  #isKnownSource = false;
  #knownSource = 0;
  /** Of the packet in hand: what its transport put before it, and whether the bytes before it are free. */
  #overheadBytes: number = OVERHEAD_BYTES.ipip;
  #headroom = true;

  constructor(parts: InboundParts) {
    const { bytes } = parts.memory;
    this.#bytes = bytes;
    this.#words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#source = parts.source;
    this.#datagrams = parts.datagrams;
    this.#sink = parts.sink;
    this.#table = parts.table;
    this.#counters = parts.counters;
    const { packetCapacity, pieceCapacity } = parts.sink.batch;
    // A run that is a single packet may take two pieces.
    const capacity = Math.min(COALESCED_PACKETS, packetCapacity, pieceCapacity >>> 1);
    this.#coalescer = new Coalescer(parts.memory, capacity, parts.udpSuperpackets, parts.sum);
  }

  /** Runs one batch; returns how many packets it received, 0 where there were none. */
  step(): number {
    const { batch } = this.#source;
    const count = this.#source.receive();
    if (count === 0) return 0;
    this.#counters.add(IN_BATCHES, 1);
    this.#forwarded = false;
    if (count === 1) {
      this.#takeLone(batch.offset(0), batch.length(0));
      return 1;
    }
    for (let i = 0; i < count; i++) this.#takePacket(batch.offset(i), batch.length(i));
    this.#flush();
    return count;
  }

  /** The same for datagrams. */
  stepDatagrams(): number {
    if (this.#datagrams === undefined) return 0;
    const count = this.#datagrams.receive();
    if (count === 0) return 0;
    this.#counters.add(IN_BATCHES, 1);
    this.#forwarded = false;
    if (count === 1 && this.#datagrams.batch.segmentBytes(0) === 0) {
      this.#takeLoneDatagram();
      return 1;
    }
    for (let i = 0; i < count; i++) this.#takeSlotOfDatagrams(i);
    this.#flush();
    return count;
  }

  /**
   * A packet by itself, which nothing can join: where it is no superpacket it goes to the device without the coalescer, which
   * is a third of what a single packet touches.
   */
  #takeLone(outer: number, length: number): void {
    this.#beginLone(length);
    this.#endLone(this.#decide(outer, length));
  }

  #takeLoneDatagram(): void {
    const { batch } = this.#datagrams!;
    const length = batch.length(0);
    this.#beginLone(length + OVERHEAD_BYTES.udp);
    this.#setOuter(batch.sender(0), batch.destination(0), batch.tos(0));
    this.#headroom = true;
    this.#endLone(this.#decideDatagram(batch.offset(0), length));
  }

  #beginLone(bytes: number): void {
    this.#segments = 1;
    this.#loneBytes = 0;
    this.#isLone = true;
    this.#counters.add(IN_BYTES, bytes);
  }

  #endLone(reason: number): void {
    this.#isLone = false;
    this.#settle(reason);
    if (this.#loneBytes > 0) this.#sendLone();
    else if (this.#runs > 0) this.#flush();
  }

  #sendLone(): void {
    const { batch } = this.#sink;
    if (this.#sink.send(0) === 1) this.#countSent(this.#slot, 1, this.#loneBytes);
    else this.#drop(deviceRefusal(this.#sink.failure));
    batch.clear();
  }

  #takePacket(outer: number, length: number): void {
    this.#segments = 1;
    this.#counters.add(IN_BYTES, length);
    if (this.#joinsPacket(outer, length)) this.#counters.add(IN_PACKETS, 1);
    else this.#settle(this.#decide(outer, length));
    if (this.#coalescer.packetCount === this.#coalescer.capacity) this.#flush();
  }

  #takeSlotOfDatagrams(i: number): void {
    const { batch } = this.#datagrams!;
    const offset = batch.offset(i);
    const length = batch.length(i);
    const segmentBytes = batch.segmentBytes(i) || length;
    const source = batch.sender(i);
    const destination = batch.destination(i);
    const tos = batch.tos(i);
    if (segmentBytes < length) this.#counters.add(IN_SUPERPACKETS, 1);
    // An empty datagram is a packet, too.
    for (let at = 0; at < length || at === 0; ) {
      const bytes = Math.min(segmentBytes, length - at);
      const alike = bytes > 0 ? ((length - at) / bytes) | 0 : 1;
      const joined = this.#cameAlike(source, destination, tos)
        ? this.#coalescer.addNext(offset + at, bytes, alike)
        : 0;
      const taken = joined || 1;
      this.#counters.add(IN_BYTES, taken * (bytes + OVERHEAD_BYTES.udp));
      if (joined > 0) this.#counters.add(IN_PACKETS, joined);
      else {
        this.#segments = 1;
        this.#headroom = at === 0;
        this.#setOuter(source, destination, tos);
        this.#settle(this.#decideDatagram(offset + at, bytes));
      }
      if (this.#coalescer.packetCount === this.#coalescer.capacity) this.#flush();
      at += taken * bytes || 1;
    }
  }

  /** Whether an outer packet continues the run of the packet before it, and was joined to it. */
  #joinsPacket(outer: number, length: number): boolean {
    if (!this.#coalescer.growing || length < 2 * IPV4_MIN_HEADER_BYTES) return false;
    const words = this.#words;
    if (
      !this.#cameAlike(
        words.getInt32(outer + IPV4_OFF_SOURCE),
        words.getInt32(outer + IPV4_OFF_DESTINATION),
        words.getUint8(outer + IPV4_OFF_TOS),
      ) ||
      words.getUint8(outer + IPV4_OFF_PROTOCOL) !== PROTOCOL_IPIP ||
      isFragmentIn(words, outer) ||
      !isPlainIpv4(words, outer, length)
    )
      return false;
    const outerBytes = words.getUint16(outer + IPV4_OFF_TOTAL_LENGTH);
    const innerBytes = outerBytes - IPV4_MIN_HEADER_BYTES;
    return this.#coalescer.addNext(outer + IPV4_MIN_HEADER_BYTES, innerBytes) > 0;
  }

  /** Whether the packet before was forwarded, and from and to these addresses, with this outer TOS. */
  #cameAlike(source: number, destination: number, tos: number): boolean {
    return (
      this.#forwarded &&
      source === this.#outerSource &&
      destination === this.#outerDestination &&
      tos === this.#outerTos
    );
  }

  #setOuter(source: number, destination: number, tos: number): void {
    this.#outerSource = source;
    this.#outerDestination = destination;
    this.#outerTos = tos;
  }

  #settle(reason: number): void {
    this.#counters.add(IN_PACKETS, this.#segments);
    this.#forwarded = reason === FORWARDED;
    if (reason !== FORWARDED) this.#drop(reason);
  }

  #decideDatagram(at: number, bytes: number): number {
    this.#slot = NO_PEER;
    if (!this.#isForUs()) return INBOUND_OUTER_NOT_FOR_US;
    this.#overheadBytes = OVERHEAD_BYTES.udp;
    return this.#decapsulate(at, bytes);
  }

  /** Returns FORWARDED or a drop reason. */
  #decide(outer: number, length: number): number {
    const words = this.#words;
    this.#slot = NO_PEER;
    if (!isPlainIpv4(words, outer, length) && checkIpv4(this.#bytes, outer, length) !== IPV4_OK)
      return INBOUND_OUTER_MALFORMED;
    const start = words.getInt32(outer);
    if (words.getUint8(outer + IPV4_OFF_PROTOCOL) !== PROTOCOL_IPIP || isFragmentIn(words, outer))
      return INBOUND_OUTER_MALFORMED;
    this.#setOuter(
      words.getInt32(outer + IPV4_OFF_SOURCE),
      words.getInt32(outer + IPV4_OFF_DESTINATION),
      (start >>> 16) & 0xff,
    );
    if (!this.#isForUs()) return INBOUND_OUTER_NOT_FOR_US;
    const outerHeaderBytes = ((start >>> 24) & 15) << 2;
    this.#overheadBytes = OVERHEAD_BYTES.ipip;
    this.#headroom = true;
    // What follows the outer packet's own length is padding of a short Ethernet frame.
    return this.#decapsulate(outer + outerHeaderBytes, (start & 0xffff) - outerHeaderBytes);
  }

  /** Whether the outer packet is for us; then its sender's slot is known. */
  #isForUs(): boolean {
    const table = this.#table;
    if (
      this.#knownOuterSource !== this.#outerSource ||
      this.#knownOuterDestination !== this.#outerDestination ||
      this.#knownChanges !== table.changes
    ) {
      if (!table.local.accepts(this.#outerDestination)) return false;
      this.#knownChanges = table.changes;
      this.#knownOuterSource = this.#outerSource;
      this.#knownOuterDestination = this.#outerDestination;
      this.#knownSlot = table.peers.slotOf(this.#outerSource);
      this.#knownMtu =
        (this.#knownSlot !== NO_PEER && table.peers.mtu(this.#knownSlot)) || DEFAULT_UNDERLAY_MTU;
      this.#isKnownSource = false;
    }
    this.#slot = this.#knownSlot;
    return true;
  }

  /** What both transports check of the inner packet, which has `innerRoom` bytes. */
  #decapsulate(inner: number, innerRoom: number): number {
    const words = this.#words;
    if (!isPlainIpv4(words, inner, innerRoom)) {
      const check = checkIpv4(this.#bytes, inner, innerRoom);
      if (check !== IPV4_OK)
        return check === IPV4_NOT_VERSION_4 ? INBOUND_INNER_NOT_IPV4 : INBOUND_INNER_MALFORMED;
    }
    const refused = this.#checkSource(words.getInt32(inner + IPV4_OFF_SOURCE));
    if (refused !== FORWARDED) return refused;
    // Loop guard: a tunnel in the tunnel that ends here would come out of our own device again.
    if (
      words.getUint8(inner + IPV4_OFF_PROTOCOL) === PROTOCOL_IPIP &&
      this.#table.local.has(words.getInt32(inner + IPV4_OFF_DESTINATION))
    )
      return INBOUND_LOOP_NESTED;
    const start = words.getInt32(inner);
    const tos = (start >>> 16) & 0xff;
    const newTos = decapsulatedTos(tos, this.#outerTos);
    if (newTos === ECN_DROP) return INBOUND_ECN_CONGESTION;
    if (newTos !== tos) setIpv4Tos(this.#bytes, inner, newTos);
    return this.#deliver(inner, start & 0xffff);
  }

  #checkSource(innerSource: number): number {
    if (this.#isKnownSource && innerSource === this.#knownSource) return FORWARDED;
    const verdict = this.#table.check(this.#outerSource, this.#slot, innerSource);
    if (verdict === SOURCE_ACCEPTED) {
      this.#isKnownSource = true;
      this.#knownSource = innerSource;
      return FORWARDED;
    }
    if (verdict === SOURCE_IN_GRACE) return FORWARDED;
    if (verdict === SOURCE_INNER_LOCAL) return INBOUND_INNER_SOURCE_LOCAL;
    if (verdict === SOURCE_INNER_FOREIGN) return INBOUND_INNER_SOURCE_FOREIGN;
    if (verdict === SOURCE_INNER_UNKNOWN) return INBOUND_INNER_SOURCE_UNKNOWN;
    return INBOUND_OUTER_SOURCE_UNKNOWN;
  }

  /** Hands the inner packet to the coalescer: alone, or as the continuation of its flow's last one. */
  #deliver(inner: number, length: number): number {
    const mtu = this.#knownMtu - this.#overheadBytes;
    if (this.#isLone && length <= mtu) return this.#deliverLone(inner, length);
    const coalescer = this.#coalescer;
    // Datagrams merged by the kernel: where one ended and the next began is lost on a raw socket.
    if (length > mtu && this.#isPartialUdp(inner, length)) return INBOUND_SEGMENT_SIZE_UNKNOWN;
    coalescer.setOverlayMtu(mtu);
    coalescer.add(inner, length, CHECKSUM_UNVERIFIED, this.#headroom);
    const run = this.#runs;
    if (coalescer.runCount === run) return FORWARDED;
    coalescer.setTag(run, this.#slot);
    this.#segments = coalescer.packetsOf(run);
    if (this.#segments > 1) this.#counters.add(IN_SUPERPACKETS, 1);
    this.#runs = run + 1;
    return FORWARDED;
  }

  #deliverLone(inner: number, length: number): number {
    writeLoneHeader(this.#words, this.#bytes, inner, length);
    const { batch } = this.#sink;
    batch.addPiece(inner - VIRTIO_NET_HEADER_BYTES, VIRTIO_NET_HEADER_BYTES + length);
    batch.endPacket(0);
    this.#loneBytes = length;
    return FORWARDED;
  }

  #isPartialUdp(inner: number, length: number): boolean {
    const view = this.#bytes;
    if (ipv4Protocol(view, inner) !== PROTOCOL_UDP || ipv4IsFragment(view, inner)) return false;
    const headerBytes = ipv4HeaderBytes(view, inner);
    const source = readI32(view, inner + IPV4_OFF_SOURCE);
    const destination = readI32(view, inner + IPV4_OFF_DESTINATION);
    const sum = pseudoHeaderSum(source, destination, PROTOCOL_UDP, length - headerBytes);
    return isPartial(view, inner + headerBytes + UDP_OFF_CHECKSUM, sum);
  }

  /** Run r of the coalescer is packet r of the batch: the batch is empty between two steps. */
  #flush(): void {
    const { batch } = this.#sink;
    this.#coalescer.finish(batch);
    let next = 0;
    while (next < batch.packetCount) {
      const sent = this.#sink.send(next);
      for (let packet = next; packet < next + sent; packet++) this.#countRun(packet);
      next += sent;
      if (next < batch.packetCount) this.#refused(next++, this.#sink.failure);
    }
    batch.clear();
    this.#coalescer.clear();
    this.#runs = 0;
  }

  #countRun(run: number): void {
    const coalescer = this.#coalescer;
    this.#countSent(coalescer.tagOf(run), coalescer.packetsOf(run), coalescer.bytesOf(run));
  }

  /** What came from the peer of `slot`, and the device took. */
  #countSent(slot: number, packets: number, bytes: number): void {
    this.#counters.add(OUT_PACKETS, packets);
    this.#counters.add(OUT_BYTES, bytes);
    this.#counters.addPeer(slot, PEER_PACKETS, packets);
    this.#counters.addPeer(slot, PEER_BYTES, bytes);
  }

  /** The device did not take a packet. */
  #refused(packet: number, failure: number): void {
    this.#slot = this.#coalescer.tagOf(packet);
    this.#segments = this.#coalescer.packetsOf(packet);
    this.#drop(deviceRefusal(failure));
  }

  #drop(reason: number): void {
    const slot = this.#slot;
    this.#counters.drop(reason, this.#segments);
    if (slot === NO_PEER) return;
    this.#counters.addPeer(slot, PEER_DROPS, this.#segments);
    if (
      reason === INBOUND_INNER_SOURCE_LOCAL ||
      reason === INBOUND_INNER_SOURCE_FOREIGN ||
      reason === INBOUND_INNER_SOURCE_UNKNOWN
    )
      this.#counters.addPeer(slot, PEER_EXTRA, this.#segments);
  }
}

/** Why the device did not take a packet, as a drop reason. */
function deviceRefusal(failure: number): number {
  if (failure === SEND_AGAIN) return INBOUND_DEVICE_FULL;
  return failure === SEND_DOWN ? INBOUND_DEVICE_DOWN : INBOUND_DEVICE_REFUSED;
}
