/**
 * ICMP errors from the underlay about our outer packets (RFC 2003 §4): what they say is kept per peer, and
 * told at once where they quote enough of the inner packet to answer its sender.
 */
import type { ForwardingTable } from '../fib/forwarding-table.ts';
import { NO_PEER } from '../fib/peer-table.ts';
import { MIN_MTU } from '../ip/mtu.ts';
import { readU16 } from '../wire/bytes.ts';
import {
  checkIcmpv4,
  ICMP_MIN_QUOTED_PAYLOAD_BYTES,
  ICMP_OFF_QUOTE,
  icmpCode,
  icmpNextHopMtu,
  icmpType,
} from '../wire/icmpv4.ts';
import {
  checkIpv4,
  IPV4_MIN_HEADER_BYTES,
  IPV4_OK,
  ipv4Destination,
  ipv4DontFragment,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Source,
  ipv4TotalLength,
  PROTOCOL_IPIP,
  PROTOCOL_UDP,
} from '../wire/ipv4.ts';
import { UDP_HEADER_BYTES, UDP_OFF_DESTINATION_PORT } from '../wire/udp.ts';
import { type Counters, NOTE_ICMP_ERRORS, PEER_EXTRA } from './counters.ts';
import {
  RELAY_FRAGMENTATION_NEEDED,
  RELAY_NET_UNREACHABLE,
  RELAY_NOTHING,
  relayedError,
  reportedPathMtu,
} from './icmp-errors.ts';
import type { InnerReplies } from './inner-replies.ts';
import type { PathState } from './path-state.ts';
import type { ErrorSource, PacketMemory } from './ports.ts';

export class IcmpListener {
  readonly #bytes: Uint8Array;
  readonly #source: ErrorSource;
  readonly #table: ForwardingTable;
  readonly #paths: PathState;
  readonly #replies: InnerReplies;
  readonly #counters: Counters;
  readonly #learnsOnly: boolean;

  constructor(parts: {
    memory: PacketMemory;
    source: ErrorSource;
    table: ForwardingTable;
    paths: PathState;
    replies: InnerReplies;
    counters: Counters;
    /** Where another listener hears the same, counts it and answers: this one only takes in what concerns its packets. */
    learnsOnly?: boolean;
  }) {
    this.#bytes = parts.memory.bytes;
    this.#source = parts.source;
    this.#table = parts.table;
    this.#paths = parts.paths;
    this.#replies = parts.replies;
    this.#counters = parts.counters;
    this.#learnsOnly = parts.learnsOnly ?? false;
  }

  /** Reads one batch, and returns its size. The caller sends the answers while the quoted packets still lie in it. */
  step(): number {
    const { batch } = this.#source;
    const count = this.#source.receive();
    for (let i = 0; i < count; i++) this.#message(batch.offset(i), batch.length(i));
    return count;
  }

  #message(packet: number, length: number): void {
    const view = this.#bytes;
    if (checkIpv4(view, packet, length) !== IPV4_OK) return;
    const icmp = packet + ipv4HeaderBytes(view, packet);
    const icmpBytes = ipv4TotalLength(view, packet) - (icmp - packet);
    if (!checkIcmpv4(view, icmp, icmpBytes)) return;
    const outer = icmp + ICMP_OFF_QUOTE;
    const quotedBytes = icmpBytes - ICMP_OFF_QUOTE;
    if (quotedBytes < IPV4_MIN_HEADER_BYTES) return;
    const slot = this.#peerOf(outer, quotedBytes);
    if (slot === NO_PEER) return;
    const byUdp = ipv4Protocol(view, outer) === PROTOCOL_UDP;
    const relayed = relayedError(icmpType(view, icmp), icmpCode(view, icmp), byUdp);
    if (relayed === RELAY_NOTHING) return;
    if (!this.#learnsOnly) this.#counters.add(NOTE_ICMP_ERRORS, 1);
    const outerHeaderBytes = ipv4HeaderBytes(view, outer) + (byUdp ? UDP_HEADER_BYTES : 0);
    const inner = outer + outerHeaderBytes;
    const innerBytes = quotedBytes - outerHeaderBytes;
    if (relayed === RELAY_FRAGMENTATION_NEEDED) {
      const mtu = reportedPathMtu(icmpNextHopMtu(view, icmp), ipv4TotalLength(view, outer));
      this.#paths.learnMtu(slot, mtu);
      if (this.#learnsOnly) return;
      const effective = this.#paths.effectiveMtu(slot, this.#table.peers.mtu(slot));
      this.#counters.setPeer(slot, PEER_EXTRA, effective < this.#table.peers.mtu(slot) ? effective : 0);
      // A report about a packet that may be fragmented says nothing to its sender: we fragment, from now on.
      if (this.#isQuotable(inner, innerBytes) && ipv4DontFragment(view, inner))
        this.#replies.fragmentationNeeded(inner, innerBytes, Math.max(mtu - outerHeaderBytes, MIN_MTU));
      return;
    }
    if (!this.#isQuotable(inner, innerBytes)) this.#paths.noteUnreachable(slot);
    else if (this.#learnsOnly) return;
    else if (relayed === RELAY_NET_UNREACHABLE) this.#replies.netUnreachable(inner, innerBytes);
    else this.#replies.hostUnreachable(inner, innerBytes);
  }

  /** The slot of the peer that a quoted outer packet of ours was going to; NO_PEER where it is none of ours. */
  #peerOf(outer: number, quotedBytes: number): number {
    const view = this.#bytes;
    if (view[outer]! >>> 4 !== 4) return NO_PEER;
    const { local, peers } = this.#table;
    if ((local.listed || local.outerSource !== 0) && !local.has(ipv4Source(view, outer))) return NO_PEER;
    const slot = peers.slotOf(ipv4Destination(view, outer));
    if (!peers.isKnown(slot)) return NO_PEER;
    if (ipv4Protocol(view, outer) === PROTOCOL_IPIP) return slot;
    const udp = outer + ipv4HeaderBytes(view, outer);
    return ipv4Protocol(view, outer) === PROTOCOL_UDP &&
      udp + UDP_HEADER_BYTES <= outer + quotedBytes &&
      readU16(view, udp + UDP_OFF_DESTINATION_PORT) === peers.udpPort(slot)
      ? slot
      : NO_PEER;
  }

  /** Whether the inner packet is quoted with its header and the 8 bytes that name its connection. */
  #isQuotable(inner: number, bytes: number): boolean {
    const view = this.#bytes;
    if (bytes < IPV4_MIN_HEADER_BYTES || view[inner]! >>> 4 !== 4) return false;
    const headerBytes = ipv4HeaderBytes(view, inner);
    return headerBytes >= IPV4_MIN_HEADER_BYTES && bytes >= headerBytes + ICMP_MIN_QUOTED_PAYLOAD_BYTES;
  }
}
