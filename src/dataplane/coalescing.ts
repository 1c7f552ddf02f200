/**
 * Consecutive packets of a flow as one superpacket for the TUN, by the rules of the kernel's GRO
 * (inet_gro_receive, tcp_gro_receive, udp_gro_receive_segment): append only; IP and TCP headers equal but for
 * length, id, checksum, sequence number and CWR, FIN, PSH; checksums verified before two packets become one,
 * because the kernel trusts a superpacket.
 *
 *     coalescer.clear();
 *     for each decapsulated packet: coalescer.add(offset, length, CHECKSUM_UNVERIFIED);
 *     coalescer.finish(batch);        // one TUN write per run: {virtio-net header, headers, payload}, {payload}, …
 *
 * A *run* is one write: a superpacket, or a single packet that passes as it is. Only the newest run of a flow
 * may grow, and runs leave in the order in which they began, so no flow is ever reordered.
 *
 * The 10 bytes before a packet become the virtio-net header; where they are not free (a datagram right behind
 * another one), `add` is told so and the header lies elsewhere. Headers are changed once, in `finish`.
 *
 * A TCP packet that is longer than the overlay MTU and has a partial checksum is a superpacket that a kernel left
 * whole (a peer on veth, a NIC with GRO; raw sockets tell no segment size): it is handed on with the segment size
 * that fits the MTU.
 *
 * Most packets of a stream are the next one of the packet before: `addNext` has them compared word by word with the
 * first of that run (run-continuation.ts), a train of equal ones in one go, and what is equal needs no looking up, and none
 * of the checks that the first one has passed. Where it says no, `add` has to be asked; the two never differ in what
 * becomes of a packet.
 *
 * Addresses, ports and sequence numbers are signed here (readI32), which is all that comparing needs: unsigned
 * they left 111 bytes a packet on the heap, signed none.
 */
// size: one class, whose every step reads the records of runs; cut apart it would hand them around per packet.
import { readI32, readU16, writeU16 } from '../wire/bytes.ts';
import { pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import {
  IPV4_MAX_PACKET_BYTES,
  IPV4_MIN_HEADER_BYTES,
  IPV4_OFF_DESTINATION,
  IPV4_OFF_SOURCE,
  IPV4_OFF_TOS,
  IPV4_OFF_TTL,
  ipv4Fragment,
  ipv4HeaderBytes,
  ipv4Id,
  ipv4IsFragment,
  ipv4Protocol,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  setIpv4TotalLength,
} from '../wire/ipv4.ts';
import {
  checkTcp,
  TCP_CWR,
  TCP_FIN,
  TCP_MIN_HEADER_BYTES,
  TCP_OFF_ACKNOWLEDGEMENT,
  TCP_OFF_CHECKSUM,
  TCP_OFF_DATA_OFFSET,
  TCP_OFF_FLAGS,
  TCP_OFF_SEQUENCE,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  tcpFlags,
  tcpHeaderBytes,
} from '../wire/tcp.ts';
import { UDP_HEADER_BYTES, UDP_OFF_CHECKSUM, UDP_OFF_LENGTH, udpLength } from '../wire/udp.ts';
import {
  clearVirtioNetHeader,
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_UDP_L4,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  writeVirtioNetHeader,
} from '../wire/virtio-net-header.ts';
import {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNVERIFIED,
  CHECKSUM_VALID,
  NO_RUN,
  PACKET_BYTES,
  PACKET_NEXT,
  PACKET_OFFSET,
  PACKET_WORDS,
  RUN_ADDED_FLAGS,
  RUN_BUCKET,
  RUN_CHECKSUM_STATE,
  RUN_FIRST_PACKET,
  RUN_HEADER_BYTES,
  RUN_IP_BYTES,
  RUN_LAST_PACKET,
  RUN_NEXT_SEQUENCE,
  RUN_OFFSET,
  RUN_OLDER,
  RUN_OPEN,
  RUN_PACKETS,
  RUN_PORTS,
  RUN_PROTOCOL,
  RUN_SEGMENT_BYTES,
  RUN_TAG,
  RUN_TOTAL_BYTES,
  RUN_VNET,
  RUN_WORDS,
} from './coalesced-run.ts';
import type { PacketMemory, PieceBatch } from './ports.ts';
import { idContinues, RunContinuation, TCP_WORD_MASK } from './run-continuation.ts';
import type { SumBytes } from './segmentation.ts';

/** Kernel: UDP_GRO_CNT_MAX. */
const UDP_RUN_MAX_PACKETS = 64;
const TCP_ENDS_RUN = TCP_FIN | TCP_PSH | TCP_SYN | TCP_RST | TCP_URG;

/** A virtio-net header apart, aligned. */
const VNET_BLOB_BYTES = 16;
const BUCKETS = 256;

export class Coalescer {
  /** Packets between two `clear`s. */
  readonly capacity: number;
  readonly #view: Uint8Array;
  /** The same bytes, for reading four of them in one go, at any alignment. */
  readonly #words: DataView;
  readonly #sum: SumBytes;
  readonly #udp: boolean;
  #overlayMtu = IPV4_MAX_PACKET_BYTES;

  /** Records of PACKET_WORDS, in the order of `add`; a run's packets are a list through PACKET_NEXT. */
  readonly #packets: Int32Array;
  #packetsEnd = 0;
  /** Records of RUN_WORDS, in the order in which they began. A run or packet is named by where its record begins. */
  readonly #runs: Int32Array;
  #runsEnd = 0;
  /** The run that the last packet began or continued. */
  #latest = NO_RUN;
  readonly #vnetBlobs: number;
  readonly #continuation: RunContinuation;
  /** Newest run of each bucket of flows; RUN_OLDER leads to the next older one of the same bucket. */
  readonly #bucket = new Int32Array(BUCKETS).fill(NO_RUN);

  /** The packet that `add` is looking at. */
  #at = 0;
  #length = 0;
  #headroom = true;
  #packetIpBytes = 0;
  #packetHeaderBytes = 0;
  #packetProtocol = 0;
  #packetPorts = 0;
  #packetState = CHECKSUM_UNVERIFIED;

  /** `udp`: whether the TUN takes UDP superpackets (USO, Linux 6.2). */
  constructor(
    memory: PacketMemory,
    capacity: number,
    udp: boolean,
    sum: SumBytes = (offset, length, initial) => sumBytes(memory.bytes, offset, length, initial),
  ) {
    const { bytes } = memory;
    this.#view = bytes;
    this.#words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.capacity = capacity;
    this.#vnetBlobs = memory.allocate(capacity * VNET_BLOB_BYTES, VNET_BLOB_BYTES);
    this.#sum = sum;
    this.#udp = udp;
    this.#packets = new Int32Array(capacity * PACKET_WORDS);
    this.#runs = new Int32Array(capacity * RUN_WORDS);
    this.#continuation = new RunContinuation(this.#words, sum);
  }

  get packetCount(): number {
    return (this.#packetsEnd / PACKET_WORDS) | 0;
  }

  get runCount(): number {
    return (this.#runsEnd / RUN_WORDS) | 0;
  }

  /** Packets of the run that is number `index` since `clear`, as they were on the wire: a superpacket counts its segments. */
  packetsOf(index: number): number {
    return this.#runs[index * RUN_WORDS + RUN_PACKETS]!;
  }

  /** Bytes of what the run has become: one header, and the payload of all its packets. */
  bytesOf(index: number): number {
    return this.#runs[index * RUN_WORDS + RUN_TOTAL_BYTES]!;
  }

  /** What the caller knows of a run. */
  tagOf(index: number): number {
    return this.#runs[index * RUN_WORDS + RUN_TAG]!;
  }

  setTag(index: number, tag: number): void {
    this.#runs[index * RUN_WORDS + RUN_TAG] = tag;
  }

  /** Whether the last packet's run may go on: `addNext` is worth a try. */
  get growing(): boolean {
    return this.#latest !== NO_RUN && this.#runs[this.#latest + RUN_OPEN] === 1;
  }

  setOverlayMtu(bytes: number): void {
    this.#overlayMtu = bytes;
  }

  clear(): void {
    // Only those in use: most batches are one run, and the buckets a kilobyte.
    for (let run = 0; run < this.#runsEnd; run += RUN_WORDS) {
      const bucket = this.#runs[run + RUN_BUCKET]!;
      if (bucket !== NO_RUN) this.#bucket[bucket] = NO_RUN;
    }
    this.#packetsEnd = 0;
    this.#runsEnd = 0;
    this.#latest = NO_RUN;
    this.#continuation.forget();
  }

  /**
   * Takes the packet of `length` bytes (its total length) at `offset`, whose IPv4 header has been checked.
   * `headroom`: whether the bytes before it are free.
   */
  add(offset: number, length: number, checksumState: number, headroom = true): void {
    this.#headroom = headroom;
    this.#at = offset;
    this.#length = length;
    this.#packetState = checksumState;
    if (!this.#readTransport()) {
      this.#packetState = CHECKSUM_VALID; // or not: there is none that a virtio-net header could point at
      this.#startRun(NO_RUN, false);
      return;
    }
    const bucket = this.#bucketOfPacket();
    const run = this.#newestRunOfFlow(bucket);
    const canMerge = this.#canMerge();
    if (run !== NO_RUN && this.#runs[run + RUN_OPEN] === 1 && canMerge && this.#belongsTo(run)) {
      this.#append(run, offset, length, 1, this.#endingFlags());
      return;
    }
    // From here on the packet's own run is the flow's newest, and no older one grows any more.
    this.#startRun(bucket, canMerge && this.#canGrow());
  }

  /**
   * Takes the packet where it continues the run of the packet before it, and fills all of its `length` bytes; and those
   * behind it as long as they do and fit, of `count` packets of that length. Returns how many: of the one that follows
   * them it is not plain to see, so it was not taken, and nothing is known of it.
   */
  addNext(offset: number, length: number, count = 1): number {
    if (!this.growing) return 0;
    const runs = this.#runs;
    const run = this.#latest;
    const payloadBytes = length - runs[run + RUN_HEADER_BYTES]!;
    if (payloadBytes <= 0 || !this.#sizeMatches(run, payloadBytes)) return 0;
    // Most that do not continue it are of another flow.
    if (this.#words.getInt32(offset + IPV4_MIN_HEADER_BYTES) !== runs[run + RUN_PORTS]) return 0;
    const most = count === 1 ? 1 : Math.min(count, this.#roomOf(run, payloadBytes));
    const taken = this.#continuation.count(runs, run, offset, length, most);
    if (taken === 0 || !this.#firstVerified(run)) return 0;
    this.#append(run, offset, length, taken, this.#continuation.addedFlags);
    return taken;
  }

  /** How many packets with that much payload the run may still take, where it takes one. A shorter one is the last. */
  #roomOf(run: number, payloadBytes: number): number {
    const runs = this.#runs;
    if (payloadBytes < runs[run + RUN_SEGMENT_BYTES]!) return 1;
    const free = this.capacity - this.packetCount;
    const room = ((IPV4_MAX_PACKET_BYTES - runs[run + RUN_TOTAL_BYTES]!) / payloadBytes) | 0;
    return runs[run + RUN_PROTOCOL] === PROTOCOL_TCP
      ? Math.min(room, free)
      : Math.min(room, free, UDP_RUN_MAX_PACKETS - runs[run + RUN_PACKETS]!);
  }

  /** Reads where the headers end, and the ports; false where the packet is of no flow that has any. */
  #readTransport(): boolean {
    const view = this.#view;
    const ipBytes = ipv4HeaderBytes(view, this.#at);
    const transport = this.#at + ipBytes;
    const protocol = ipv4Protocol(view, this.#at);
    const bytes = this.#length - ipBytes;
    this.#packetIpBytes = ipBytes;
    this.#packetHeaderBytes = ipBytes;
    this.#packetProtocol = protocol;
    if (ipv4IsFragment(view, this.#at)) return false;
    if (protocol === PROTOCOL_TCP && checkTcp(view, transport, bytes))
      this.#packetHeaderBytes = ipBytes + tcpHeaderBytes(view, transport);
    else if (protocol === PROTOCOL_UDP && bytes >= UDP_HEADER_BYTES)
      this.#packetHeaderBytes = ipBytes + UDP_HEADER_BYTES;
    else return false;
    this.#packetPorts = readI32(view, transport);
    if (this.#packetState === CHECKSUM_UNVERIFIED && this.#looksPartial())
      this.#packetState = CHECKSUM_PARTIAL;
    return true;
  }

  #checksumField(): number {
    return this.#packetProtocol === PROTOCOL_TCP ? TCP_OFF_CHECKSUM : UDP_OFF_CHECKSUM;
  }

  #pseudoSum(offset: number, protocol: number, transportBytes: number): number {
    const words = this.#words;
    return pseudoHeaderSum(
      words.getInt32(offset + IPV4_OFF_SOURCE),
      words.getInt32(offset + IPV4_OFF_DESTINATION),
      protocol,
      transportBytes,
    );
  }

  /**
   * The checksum field holds just the pseudo-header's sum. One in 65,536 complete checksums looks so too; to
   * finish that one gives the same value again, so nothing is lost by the mistake.
   */
  #looksPartial(): boolean {
    const field = this.#at + this.#packetIpBytes + this.#checksumField();
    const pseudo = this.#pseudoSum(this.#at, this.#packetProtocol, this.#length - this.#packetIpBytes);
    return readU16(this.#view, field) === pseudo;
  }

  /** Whether a packet of this shape may be part of a run of several at all. */
  #canMerge(): boolean {
    const view = this.#view;
    const payloadBytes = this.#length - this.#packetHeaderBytes;
    if (this.#packetIpBytes !== IPV4_MIN_HEADER_BYTES || payloadBytes === 0) return false;
    if (this.#length > this.#overlayMtu) return false;
    if (this.#packetProtocol === PROTOCOL_TCP) return true;
    const udp = this.#at + this.#packetIpBytes;
    return (
      this.#udp &&
      udpLength(view, udp) === this.#length - this.#packetIpBytes &&
      readU16(view, udp + UDP_OFF_CHECKSUM) !== 0
    );
  }

  /** Whether a run may go on after this packet as its first. */
  #canGrow(): boolean {
    return (
      this.#packetProtocol === PROTOCOL_UDP ||
      (tcpFlags(this.#view, this.#at + this.#packetIpBytes) & TCP_ENDS_RUN) === 0
    );
  }

  #bucketOfPacket(): number {
    const view = this.#view;
    let hash =
      readI32(view, this.#at + IPV4_OFF_SOURCE) ^
      readI32(view, this.#at + IPV4_OFF_DESTINATION) ^
      this.#packetPorts;
    hash ^= hash >>> 16;
    hash ^= hash >>> 8;
    return (hash ^ this.#packetProtocol) & (BUCKETS - 1);
  }

  #newestRunOfFlow(bucket: number): number {
    const view = this.#view;
    for (let run = this.#bucket[bucket]!; run !== NO_RUN; run = this.#runs[run + RUN_OLDER]!) {
      const offset = this.#runs[run + RUN_OFFSET]!;
      if (
        this.#runs[run + RUN_PORTS] === this.#packetPorts &&
        this.#runs[run + RUN_PROTOCOL] === this.#packetProtocol &&
        readI32(view, offset + IPV4_OFF_SOURCE) === readI32(view, this.#at + IPV4_OFF_SOURCE) &&
        readI32(view, offset + IPV4_OFF_DESTINATION) === readI32(view, this.#at + IPV4_OFF_DESTINATION)
      )
        return run;
    }
    return NO_RUN;
  }

  /** Whether the packet continues the run; the checksums are looked at last, since that costs most. */
  #belongsTo(run: number): boolean {
    return (
      this.#ipMatches(run) &&
      this.#packetHeaderBytes === this.#runs[run + RUN_HEADER_BYTES] &&
      this.#sizeMatches(run, this.#length - this.#packetHeaderBytes) &&
      (this.#packetProtocol === PROTOCOL_UDP || this.#tcpMatches(run)) &&
      this.#verified(run)
    );
  }

  /** inet_gro_receive: TTL, TOS and DF equal; ids count up by one, or stay the same where DF makes them void (RFC 6864). */
  #ipMatches(run: number): boolean {
    const view = this.#view;
    const first = this.#runs[run + RUN_OFFSET]!;
    const packet = this.#at;
    const fragment = ipv4Fragment(view, packet);
    if (
      view[first + IPV4_OFF_TTL] !== view[packet + IPV4_OFF_TTL] ||
      view[first + IPV4_OFF_TOS] !== view[packet + IPV4_OFF_TOS] ||
      ipv4Fragment(view, first) !== fragment
    )
      return false;
    const packets = this.#runs[run + RUN_PACKETS]!;
    return idContinues(this.#runs, run, packets, ipv4Id(view, packet) - ipv4Id(view, first), fragment);
  }

  /** Payload of 1 to the segment size (a shorter one is the last), and no more than IPv4 can say in one packet. */
  #sizeMatches(run: number, payloadBytes: number): boolean {
    return (
      payloadBytes <= this.#runs[run + RUN_SEGMENT_BYTES]! &&
      this.#runs[run + RUN_TOTAL_BYTES]! + payloadBytes <= IPV4_MAX_PACKET_BYTES
    );
  }

  /** tcp_gro_receive: next in sequence, same acknowledgement, window, flags and options; CWR begins a run. */
  #tcpMatches(run: number): boolean {
    const view = this.#view;
    const first = this.#runs[run + RUN_OFFSET]! + this.#runs[run + RUN_IP_BYTES]!;
    const tcp = this.#at + this.#packetIpBytes;
    if (
      readI32(view, tcp + TCP_OFF_SEQUENCE) !== this.#runs[run + RUN_NEXT_SEQUENCE] ||
      (tcpFlags(view, tcp) & TCP_CWR) !== 0
    )
      return false;
    const wordChanges = readI32(view, first + TCP_OFF_DATA_OFFSET) ^ readI32(view, tcp + TCP_OFF_DATA_OFFSET);
    if ((wordChanges & TCP_WORD_MASK) !== 0) return false;
    if (readI32(view, first + TCP_OFF_ACKNOWLEDGEMENT) !== readI32(view, tcp + TCP_OFF_ACKNOWLEDGEMENT))
      return false;
    const end = this.#packetHeaderBytes - this.#packetIpBytes;
    for (let i = TCP_MIN_HEADER_BYTES; i < end; i++) if (view[first + i] !== view[tcp + i]) return false;
    return true;
  }

  /** Both the run's first packet and this one have a right checksum. */
  #verified(run: number): boolean {
    if (!this.#firstVerified(run)) return false;
    if (this.#packetState === CHECKSUM_UNVERIFIED)
      return this.#checksumRight(this.#at, this.#packetIpBytes, this.#length, this.#packetProtocol);
    return true;
  }

  /** Looked at once a run, when a second packet comes. */
  #firstVerified(run: number): boolean {
    const runs = this.#runs;
    if (runs[run + RUN_CHECKSUM_STATE] !== CHECKSUM_UNVERIFIED) return true;
    const length = runs[run + RUN_HEADER_BYTES]! + runs[run + RUN_SEGMENT_BYTES]!;
    const ipBytes = runs[run + RUN_IP_BYTES]!;
    if (!this.#checksumRight(runs[run + RUN_OFFSET]!, ipBytes, length, runs[run + RUN_PROTOCOL]!))
      return false;
    runs[run + RUN_CHECKSUM_STATE] = CHECKSUM_VALID;
    return true;
  }

  #checksumRight(offset: number, ipBytes: number, length: number, protocol: number): boolean {
    const transportBytes = length - ipBytes;
    const pseudo = this.#pseudoSum(offset, protocol, transportBytes);
    return this.#sum(offset + ipBytes, transportBytes, pseudo) === 0xffff;
  }

  /** FIN and PSH of the packet that `add` is looking at. */
  #endingFlags(): number {
    if (this.#packetProtocol !== PROTOCOL_TCP) return 0;
    return tcpFlags(this.#view, this.#at + this.#packetIpBytes) & (TCP_FIN | TCP_PSH);
  }

  /** Adds `count` packets of `length` bytes that follow each other; `flags`: FIN and PSH of the last. */
  #append(run: number, offset: number, length: number, count: number, flags: number): void {
    const runs = this.#runs;
    const headerBytes = runs[run + RUN_HEADER_BYTES]!;
    const payloadBytes = length - headerBytes;
    const packets = this.#packets;
    const end = this.#packetsEnd + count * PACKET_WORDS;
    let last = runs[run + RUN_LAST_PACKET]!;
    let payload = offset + headerBytes;
    for (let packet = this.#packetsEnd; packet < end; packet += PACKET_WORDS) {
      packets[packet + PACKET_OFFSET] = payload;
      packets[packet + PACKET_BYTES] = payloadBytes;
      packets[last + PACKET_NEXT] = packet;
      last = packet;
      payload += length;
    }
    packets[last + PACKET_NEXT] = NO_RUN;
    this.#packetsEnd = end;
    this.#latest = run;
    runs[run + RUN_LAST_PACKET] = last;
    runs[run + RUN_PACKETS]! += count;
    runs[run + RUN_TOTAL_BYTES]! += count * payloadBytes;
    const isShort = payloadBytes < runs[run + RUN_SEGMENT_BYTES]!;
    if (runs[run + RUN_PROTOCOL] === PROTOCOL_TCP) {
      runs[run + RUN_NEXT_SEQUENCE]! += count * payloadBytes;
      runs[run + RUN_ADDED_FLAGS]! |= flags;
      if (isShort || flags !== 0) runs[run + RUN_OPEN] = 0;
    } else if (isShort || runs[run + RUN_PACKETS]! >= UDP_RUN_MAX_PACKETS) runs[run + RUN_OPEN] = 0;
  }

  /** Runs of no flow (`bucket` NO_RUN) are found by nobody. */
  #startRun(bucket: number, open: boolean): void {
    const view = this.#view;
    const packet = this.#addPacket(
      this.#at + this.#packetHeaderBytes,
      this.#length - this.#packetHeaderBytes,
    );
    const run = this.#runsEnd;
    this.#runsEnd = run + RUN_WORDS;
    this.#latest = run;
    this.#runs[run + RUN_OPEN] = open ? 1 : 0;
    this.#runs[run + RUN_OFFSET] = this.#at;
    this.#runs[run + RUN_VNET] = this.#headroom
      ? this.#at - VIRTIO_NET_HEADER_BYTES
      : this.#vnetBlobs + ((run / RUN_WORDS) | 0) * VNET_BLOB_BYTES;
    this.#runs[run + RUN_IP_BYTES] = this.#packetIpBytes;
    this.#runs[run + RUN_HEADER_BYTES] = this.#packetHeaderBytes;
    this.#runs[run + RUN_PROTOCOL] = this.#packetProtocol;
    this.#runs[run + RUN_PORTS] = this.#packetPorts;
    this.#runs[run + RUN_SEGMENT_BYTES] = this.#length - this.#packetHeaderBytes;
    this.#runs[run + RUN_FIRST_PACKET] = packet;
    this.#runs[run + RUN_LAST_PACKET] = packet;
    this.#runs[run + RUN_TOTAL_BYTES] = this.#length;
    this.#runs[run + RUN_CHECKSUM_STATE] = this.#packetState;
    this.#runs[run + RUN_ADDED_FLAGS] = 0;
    this.#runs[run + RUN_PACKETS] = 1;
    this.#runs[run + RUN_BUCKET] = bucket;
    if (bucket === NO_RUN) return;
    this.#runs[run + RUN_OLDER] = this.#bucket[bucket]!;
    this.#bucket[bucket] = run;
    if (this.#packetProtocol !== PROTOCOL_TCP) return;
    const payloadBytes = this.#length - this.#packetHeaderBytes;
    this.#runs[run + RUN_NEXT_SEQUENCE] =
      readI32(view, this.#at + this.#packetIpBytes + TCP_OFF_SEQUENCE) + payloadBytes;
    if (this.#length > this.#overlayMtu && this.#packetState === CHECKSUM_PARTIAL) this.#takeSuperpacket(run);
  }

  #takeSuperpacket(run: number): void {
    const segmentBytes = this.#overlayMtu - this.#packetHeaderBytes;
    if (segmentBytes <= 0) return;
    const payloadBytes = this.#length - this.#packetHeaderBytes;
    this.#runs[run + RUN_SEGMENT_BYTES] = segmentBytes;
    this.#runs[run + RUN_PACKETS] = Math.ceil(payloadBytes / segmentBytes);
  }

  #addPacket(offset: number, bytes: number): number {
    const packet = this.#packetsEnd;
    this.#packetsEnd = packet + PACKET_WORDS;
    this.#packets[packet + PACKET_OFFSET] = offset;
    this.#packets[packet + PACKET_BYTES] = bytes;
    this.#packets[packet + PACKET_NEXT] = NO_RUN;
    return packet;
  }

  /** Writes the headers of each run and adds it to `batch` as one packet; run r becomes packet (batch's count + r). */
  finish(batch: PieceBatch): void {
    for (let run = 0; run < this.#runsEnd; run += RUN_WORDS) {
      const offset = this.#runs[run + RUN_OFFSET]!;
      if (this.#runs[run + RUN_PACKETS] === 1) this.#finishSingle(run);
      else this.#finishSuperpacket(run);
      let packet = this.#runs[run + RUN_FIRST_PACKET]!;
      const firstBytes = this.#runs[run + RUN_HEADER_BYTES]! + this.#packets[packet + PACKET_BYTES]!;
      const vnet = this.#runs[run + RUN_VNET]!;
      if (vnet + VIRTIO_NET_HEADER_BYTES === offset)
        batch.addPiece(vnet, VIRTIO_NET_HEADER_BYTES + firstBytes);
      else {
        batch.addPiece(vnet, VIRTIO_NET_HEADER_BYTES);
        batch.addPiece(offset, firstBytes);
      }
      for (
        packet = this.#packets[packet + PACKET_NEXT]!;
        packet !== NO_RUN;
        packet = this.#packets[packet + PACKET_NEXT]!
      )
        batch.addPiece(this.#packets[packet + PACKET_OFFSET]!, this.#packets[packet + PACKET_BYTES]!);
      batch.endPacket(0);
    }
  }

  #finishSingle(run: number): void {
    if (this.#runs[run + RUN_CHECKSUM_STATE] === CHECKSUM_PARTIAL) this.#writeVnet(run, GSO_NONE, 0);
    else clearVirtioNetHeader(this.#view, this.#runs[run + RUN_VNET]!);
  }

  #writeVnet(run: number, gsoType: number, gsoSize: number): void {
    const field = this.#runs[run + RUN_PROTOCOL] === PROTOCOL_TCP ? TCP_OFF_CHECKSUM : UDP_OFF_CHECKSUM;
    writeVirtioNetHeader(
      this.#view,
      this.#runs[run + RUN_VNET]!,
      VNET_NEEDS_CHECKSUM,
      gsoType,
      this.#runs[run + RUN_HEADER_BYTES]!,
      gsoSize,
      this.#runs[run + RUN_IP_BYTES]!,
      field,
    );
  }

  /** tcp_gro_complete, udp_gro_complete: the lengths of the whole, FIN and PSH of the last, a partial checksum. */
  #finishSuperpacket(run: number): void {
    const view = this.#view;
    const offset = this.#runs[run + RUN_OFFSET]!;
    const totalBytes = this.#runs[run + RUN_TOTAL_BYTES]!;
    const transport = offset + this.#runs[run + RUN_IP_BYTES]!;
    const transportBytes = totalBytes - this.#runs[run + RUN_IP_BYTES]!;
    const protocol = this.#runs[run + RUN_PROTOCOL]!;
    const pseudo = this.#pseudoSum(offset, protocol, transportBytes);
    setIpv4TotalLength(view, offset, totalBytes);
    let gsoType = GSO_UDP_L4;
    if (protocol === PROTOCOL_TCP) {
      const flags = tcpFlags(view, transport) | this.#runs[run + RUN_ADDED_FLAGS]!;
      view[transport + TCP_OFF_FLAGS] = flags;
      writeU16(view, transport + TCP_OFF_CHECKSUM, pseudo);
      gsoType = (flags & TCP_CWR) === 0 ? GSO_TCPV4 : GSO_TCPV4 | GSO_ECN;
    } else {
      writeU16(view, transport + UDP_OFF_LENGTH, transportBytes);
      writeU16(view, transport + UDP_OFF_CHECKSUM, pseudo);
    }
    this.#writeVnet(run, gsoType, this.#runs[run + RUN_SEGMENT_BYTES]!);
  }
}
