/**
 * Theory of operation: inbound, from the underlay to the TUN. One call of `step` runs one batch to completion:
 *
 *   1. `source.receive` brings packets of protocol 4 with their outer headers, reassembled by the kernel;
 *   2. `#decide` checks the outer header, who sent it, that the inner packet is whole, and that its source is
 *      that sender's to use (source-table.ts);
 *   3. decapsulation is in place: the inner packet stays, and a virtio-net header is written right before it,
 *      over the end of the outer header; ECN goes from outer to inner (RFC 6040);
 *   4. `#flush` writes each to the TUN, and counts what the device took and what it refused.
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
  SOURCE_INNER_FOREIGN,
  SOURCE_INNER_LOCAL,
  SOURCE_INNER_UNKNOWN,
} from '../fib/source-table.ts';
import { IPV4_HEADER_BYTES } from '../ip/mtu.ts';
import { isPartial, pseudoHeaderSum } from '../wire/checksum.ts';
import {
  checkIpv4,
  IPV4_NOT_VERSION_4,
  IPV4_OK,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4IsFragment,
  ipv4Protocol,
  ipv4Source,
  ipv4Tos,
  ipv4TotalLength,
  PROTOCOL_IPIP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  setIpv4Tos,
} from '../wire/ipv4.ts';
import { checkTcp, TCP_CWR, tcpFlags, tcpHeaderBytes } from '../wire/tcp.ts';
import {
  clearVirtioNetHeader,
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  TCP_CHECKSUM_OFFSET,
  UDP_CHECKSUM_OFFSET,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  writeVirtioNetHeader,
} from '../wire/virtio-net-header.ts';
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
import { type PacketMemory, type PacketSink, type PacketSource, SEND_AGAIN, SEND_DOWN } from './ports.ts';

/** What `#decide` returns where it is no drop reason. */
const FORWARDED = -1;
const UDP_HEADER_BYTES = 8;
/** Segment size for a sender whose path MTU nobody configured: every link of today carries it. */
const DEFAULT_UNDERLAY_MTU = 1400;

export interface InboundParts {
  readonly memory: PacketMemory;
  readonly source: PacketSource;
  readonly sink: PacketSink;
  readonly table: SourceTable;
  readonly counters: Counters;
}

export class Inbound {
  readonly #bytes: Uint8Array;
  readonly #source: PacketSource;
  readonly #sink: PacketSink;
  readonly #table: SourceTable;
  readonly #counters: Counters;
  /** Of each packet in the sink's batch: peer slot, packets on the wire, bytes. */
  readonly #tag: Int32Array;
  readonly #packets: Int32Array;
  /** Peer of the packet in hand, and how many packets on the wire it stands for. */
  #slot = NO_PEER;
  #segments = 1;

  constructor(parts: InboundParts) {
    this.#bytes = parts.memory.bytes;
    this.#source = parts.source;
    this.#sink = parts.sink;
    this.#table = parts.table;
    this.#counters = parts.counters;
    this.#tag = new Int32Array(parts.sink.batch.packetCapacity);
    this.#packets = new Int32Array(parts.sink.batch.packetCapacity);
  }

  /** Runs one batch; returns how many packets it received, 0 where there were none. */
  step(): number {
    const { batch } = this.#source;
    const count = this.#source.receive();
    if (count === 0) return 0;
    this.#counters.add(IN_BATCHES, 1);
    for (let i = 0; i < count; i++) {
      const reason = this.#decide(batch.offset[i]!, batch.length[i]!);
      this.#counters.add(IN_PACKETS, this.#segments);
      if (reason !== FORWARDED) this.#drop(reason);
    }
    this.#flush();
    return count;
  }

  /** Returns FORWARDED or a drop reason. */
  #decide(outer: number, length: number): number {
    const view = this.#bytes;
    this.#slot = NO_PEER;
    this.#segments = 1;
    this.#counters.add(IN_BYTES, length);
    if (checkIpv4(view, outer, length) !== IPV4_OK) return INBOUND_OUTER_MALFORMED;
    if (ipv4Protocol(view, outer) !== PROTOCOL_IPIP || ipv4IsFragment(view, outer))
      return INBOUND_OUTER_MALFORMED;
    if (!this.#table.local.accepts(ipv4Destination(view, outer))) return INBOUND_OUTER_NOT_FOR_US;
    this.#slot = this.#table.peers.slotOf(ipv4Source(view, outer));
    const outerHeaderBytes = ipv4HeaderBytes(view, outer);
    const inner = outer + outerHeaderBytes;
    // What follows the outer packet's own length is padding of a short Ethernet frame.
    const innerRoom = ipv4TotalLength(view, outer) - outerHeaderBytes;
    const check = checkIpv4(view, inner, innerRoom);
    if (check !== IPV4_OK)
      return check === IPV4_NOT_VERSION_4 ? INBOUND_INNER_NOT_IPV4 : INBOUND_INNER_MALFORMED;
    const refused = this.#checkSource(ipv4Source(view, outer), ipv4Source(view, inner));
    if (refused !== FORWARDED) return refused;
    // Loop guard: a tunnel in the tunnel that ends here would come out of our own device again.
    if (ipv4Protocol(view, inner) === PROTOCOL_IPIP && this.#table.local.has(ipv4Destination(view, inner)))
      return INBOUND_LOOP_NESTED;
    const tos = ipv4Tos(view, inner);
    const newTos = decapsulatedTos(tos, ipv4Tos(view, outer));
    if (newTos === ECN_DROP) return INBOUND_ECN_CONGESTION;
    if (newTos !== tos) setIpv4Tos(view, inner, newTos);
    return this.#deliver(inner);
  }

  #checkSource(outerSource: number, innerSource: number): number {
    const verdict = this.#table.check(outerSource, this.#slot, innerSource);
    if (verdict === SOURCE_ACCEPTED) return FORWARDED;
    if (verdict === SOURCE_INNER_LOCAL) return INBOUND_INNER_SOURCE_LOCAL;
    if (verdict === SOURCE_INNER_FOREIGN) return INBOUND_INNER_SOURCE_FOREIGN;
    if (verdict === SOURCE_INNER_UNKNOWN) return INBOUND_INNER_SOURCE_UNKNOWN;
    return INBOUND_OUTER_SOURCE_UNKNOWN;
  }

  /** Puts a virtio-net header before the inner packet, over the outer header, and hands both to the device. */
  #deliver(inner: number): number {
    const vnet = inner - VIRTIO_NET_HEADER_BYTES;
    const refused = this.#writeVirtioNetHeader(vnet, inner);
    if (refused !== FORWARDED) return refused;
    const { batch } = this.#sink;
    if (!batch.hasRoom(1)) this.#flush();
    batch.addPiece(vnet, VIRTIO_NET_HEADER_BYTES + ipv4TotalLength(this.#bytes, inner));
    const packet = batch.endPacket(0);
    this.#tag[packet] = this.#slot;
    this.#packets[packet] = this.#segments;
    return FORWARDED;
  }

  #writeVirtioNetHeader(vnet: number, inner: number): number {
    const view = this.#bytes;
    const headerBytes = ipv4HeaderBytes(view, inner);
    const transport = inner + headerBytes;
    const transportBytes = ipv4TotalLength(view, inner) - headerBytes;
    const protocol = ipv4Protocol(view, inner);
    // Checked before the header is written: the outer header below it is still needed for nothing else.
    if (!this.#isPartial(inner, transport, transportBytes, protocol)) {
      clearVirtioNetHeader(view, vnet);
      return FORWARDED;
    }
    const checksumOffset = protocol === PROTOCOL_TCP ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET;
    const mtu = this.#innerMtu();
    if (headerBytes + transportBytes <= mtu) {
      writeVirtioNetHeader(view, vnet, VNET_NEEDS_CHECKSUM, GSO_NONE, 0, 0, headerBytes, checksumOffset);
      return FORWARDED;
    }
    // Datagrams merged by the kernel: where one ended and the next began is lost on a raw socket.
    if (protocol === PROTOCOL_UDP) return INBOUND_SEGMENT_SIZE_UNKNOWN;
    const allHeaderBytes = headerBytes + tcpHeaderBytes(view, transport);
    const segmentBytes = mtu - allHeaderBytes;
    this.#segments = Math.ceil((headerBytes + transportBytes - allHeaderBytes) / segmentBytes);
    this.#counters.add(IN_SUPERPACKETS, 1);
    const type = (tcpFlags(view, transport) & TCP_CWR) !== 0 ? GSO_TCPV4 | GSO_ECN : GSO_TCPV4;
    writeVirtioNetHeader(
      view,
      vnet,
      VNET_NEEDS_CHECKSUM,
      type,
      allHeaderBytes,
      segmentBytes,
      headerBytes,
      checksumOffset,
    );
    return FORWARDED;
  }

  #isPartial(inner: number, transport: number, transportBytes: number, protocol: number): boolean {
    const view = this.#bytes;
    let field: number;
    if (protocol === PROTOCOL_TCP) {
      if (!checkTcp(view, transport, transportBytes)) return false;
      field = transport + TCP_CHECKSUM_OFFSET;
    } else if (protocol === PROTOCOL_UDP) {
      if (transportBytes < UDP_HEADER_BYTES) return false;
      field = transport + UDP_CHECKSUM_OFFSET;
    } else return false;
    // A fragment's transport checksum covers bytes that are not here.
    if (ipv4IsFragment(view, inner)) return false;
    const source = ipv4Source(view, inner);
    return isPartial(
      view,
      field,
      pseudoHeaderSum(source, ipv4Destination(view, inner), protocol, transportBytes),
    );
  }

  /** The largest inner packet that the way from this sender carries in one piece. */
  #innerMtu(): number {
    const mtu = this.#slot === NO_PEER ? 0 : this.#table.peers.mtu[this.#slot]!;
    return (mtu === 0 ? DEFAULT_UNDERLAY_MTU : mtu) - IPV4_HEADER_BYTES;
  }

  #flush(): void {
    const { batch } = this.#sink;
    let next = 0;
    while (next < batch.packetCount) {
      const sent = this.#sink.send(next);
      for (let packet = next; packet < next + sent; packet++) this.#countSent(packet);
      next += sent;
      if (next < batch.packetCount) this.#refused(next++, this.#sink.failure);
    }
    batch.clear();
  }

  #countSent(packet: number): void {
    const slot = this.#tag[packet]!;
    const packets = this.#packets[packet]!;
    const bytes = this.#sink.batch.length[packet]! - VIRTIO_NET_HEADER_BYTES;
    this.#counters.add(OUT_PACKETS, packets);
    this.#counters.add(OUT_BYTES, bytes);
    this.#counters.addPeer(slot, PEER_PACKETS, packets);
    this.#counters.addPeer(slot, PEER_BYTES, bytes);
  }

  /** The device did not take a packet. */
  #refused(packet: number, failure: number): void {
    this.#slot = this.#tag[packet]!;
    this.#segments = this.#packets[packet]!;
    if (failure === SEND_AGAIN) this.#drop(INBOUND_DEVICE_FULL);
    else this.#drop(failure === SEND_DOWN ? INBOUND_DEVICE_DOWN : INBOUND_DEVICE_REFUSED);
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
