/**
 * The `udp` transport's socket: inner packets as the payload of datagrams, as Linux FOU with `ipproto 4` sends
 * them. The kernel writes the outer headers; what differs per packet (TOS, source) goes along as control data.
 * Many datagrams of one size pass the kernel as one packet: out by UDP_SEGMENT, in by UDP_GRO. One socket does
 * both, from and to the same port, so that a firewall sees one flow per pair of nodes.
 *
 * Checksums stay on: UDP_SEGMENT refuses a socket with SO_NO_CHECK.
 */

import { UnavailableError } from '../base/errors.ts';
import {
  type PacketBatch,
  type PacketSource,
  type PieceBatch,
  SEND_UNSEGMENTED,
  SLOT_BYTES,
} from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import { EADDRINUSE, EINVAL, EIO, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import {
  CMSG_HEADER_BYTES,
  layAddress,
  layReceiveTable,
  MMSGHDR_BYTES,
  MMSGHDR_OFF_CONTROL,
  MMSGHDR_OFF_CONTROLLEN,
  MMSGHDR_OFF_LEN,
  MMSGHDR_OFF_NAMELEN,
  SOCKADDR_IN_BYTES,
} from './message-table.ts';
import {
  AF_INET,
  IPPROTO_IP,
  MSG_DONTWAIT,
  openSocket,
  SOCK_DGRAM,
  setBufferSizes,
  setIntegerOption,
  socketAddress,
} from './socket-options.ts';
import { SocketSink } from './socket-sink.ts';

/**
 * The kernel doubles it for bookkeeping. With half of it sixteen streams overflowed whenever the receiver had no processor
 * for 27 ms, and up to 18,000 segments a second were sent again, now 100 to 340; a ping beside them takes as long.
 */
const SOCKET_BUFFER_BYTES = 16 << 20;
const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IP_RECVTOS = 13;
/** DF set, and path MTUs that the kernel learned ignored: what the path takes is ours to know. */
const IP_PMTUDISC_PROBE = 3;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
/** As outer packets of protocol 4. */
const OUTER_TTL = 64;

/** Each message's control data: IP_TOS (int), IP_PKTINFO (3 × 4 bytes), UDP_SEGMENT (u16) or UDP_GRO (int). */
const CONTROL_BYTES = 96;
const SEND_OFF_TOS = 0;
const SEND_OFF_PKTINFO = 24;
const SEND_OFF_SEGMENT = 56;
const SEND_CONTROL_BYTES = 80;
const PKTINFO_OFF_SPEC_DST = 4;
const PKTINFO_OFF_ADDRESS = 8;

/** The socket, bound to `port` of every address of the calling thread's namespace. */
export function openDatagramSocket(port: number): number {
  const calls = systemCalls();
  const fd = openSocket(AF_INET, SOCK_DGRAM, 0, 'the UDP socket of the tunnel');
  try {
    setBufferSizes(fd, SOCKET_BUFFER_BYTES);
    setIntegerOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, 'setting IP_MTU_DISCOVER');
    setIntegerOption(fd, IPPROTO_IP, IP_TTL, OUTER_TTL, 'setting IP_TTL');
    setIntegerOption(fd, IPPROTO_IP, IP_RECVTOS, 1, 'setting IP_RECVTOS');
    setIntegerOption(fd, IPPROTO_IP, IP_PKTINFO, 1, 'setting IP_PKTINFO');
    setIntegerOption(fd, SOL_UDP, UDP_GRO, 1, 'setting UDP_GRO (Linux 5.0)');
    if (calls.bind(fd, socketAddress(0, port), SOCKADDR_IN_BYTES) < 0) throw bindFailed(port, calls.errno());
    return fd;
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

function bindFailed(port: number, errno: number): Error {
  if (errno === EADDRINUSE)
    return new UnavailableError('ERR_PORT_BUSY', `UDP port ${port} is in another process's hands`, {
      hint: `find it with \`ss -lunp sport = :${port}\`, or choose another with --udp-port`,
    });
  return systemCallFailed(`binding UDP port ${port}`, errno);
}

/** Datagrams as they arrive; where the kernel merged some, a slot holds several, `segmentBytes` apart. */
export class DatagramSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #fd: number;
  readonly #base: number;
  readonly #table: number;
  readonly #names: number;
  readonly #control: number;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #calls = systemCalls();

  constructor(fd: number, arena: Arena, batch: PacketBatch) {
    this.#fd = fd;
    this.batch = batch;
    this.#base = arena.base;
    this.#view = arena.view;
    this.#words = new Int32Array(arena.bytes.buffer);
    this.#table = layReceiveTable(arena, batch, SLOT_BYTES);
    this.#names = arena.allocate(batch.capacity * SOCKADDR_IN_BYTES, 16);
    this.#control = arena.allocate(batch.capacity * CONTROL_BYTES, 16);
    for (let i = 0; i < batch.capacity; i++) {
      const header = this.#table + i * MMSGHDR_BYTES;
      arena.writePointer(header, this.#names + i * SOCKADDR_IN_BYTES);
      arena.writePointer(header + MMSGHDR_OFF_CONTROL, this.#control + i * CONTROL_BYTES);
      this.#offerRoom(i);
    }
  }

  receive(): number {
    const { batch } = this;
    const count = this.#calls.recvmmsg(this.#fd, this.#base + this.#table, batch.capacity, MSG_DONTWAIT, 0);
    batch.count = count > 0 ? count : 0;
    for (let i = 0; i < count; i++) {
      batch.setLength(i, this.#words[(this.#table + i * MMSGHDR_BYTES + MMSGHDR_OFF_LEN) >>> 2]!);
      this.#readOuter(i);
      this.#offerRoom(i);
    }
    return batch.count;
  }

  /** What the kernel wrote the lengths of what it used into. */
  #offerRoom(i: number): void {
    const header = (this.#table + i * MMSGHDR_BYTES) >>> 2;
    this.#words[header + (MMSGHDR_OFF_NAMELEN >>> 2)] = SOCKADDR_IN_BYTES;
    this.#words[header + (MMSGHDR_OFF_CONTROLLEN >>> 2)] = CONTROL_BYTES;
  }

  #readOuter(i: number): void {
    const words = this.#words;
    let destination = 0;
    let tos = 0;
    let segmentBytes = 0;
    let at = this.#control + i * CONTROL_BYTES;
    const end = at + words[(this.#table + i * MMSGHDR_BYTES + MMSGHDR_OFF_CONTROLLEN) >>> 2]!;
    while (at + CMSG_HEADER_BYTES <= end) {
      const word = at >>> 2;
      const length = words[word]!;
      if (length < CMSG_HEADER_BYTES) break;
      const level = words[word + 2]!;
      const type = words[word + 3]!;
      if (level === SOL_UDP && type === UDP_GRO) segmentBytes = words[word + 4]!;
      else if (level === IPPROTO_IP && type === IP_TOS) tos = words[word + 4]! & 0xff;
      else if (level === IPPROTO_IP && type === IP_PKTINFO)
        destination = this.#view.getInt32(at + CMSG_HEADER_BYTES + PKTINFO_OFF_ADDRESS);
      at += (length + 7) & ~7;
    }
    const sender = this.#view.getInt32(this.#names + i * SOCKADDR_IN_BYTES + 4);
    this.batch.setOuter(i, sender, destination, tos, segmentBytes);
  }
}

/** Datagrams out; a packet of several leaves as one, for the kernel or the device to cut apart. */
export class DatagramSink extends SocketSink {
  constructor(fd: number, arena: Arena, batch: PieceBatch) {
    super(fd, arena, batch, SOCKADDR_IN_BYTES, CONTROL_BYTES);
    for (let i = 0; i < batch.packetCapacity; i++) {
      const control = this.table.controlOf(i);
      arena.view.setUint16(this.table.nameOf(i), AF_INET, true);
      this.table.layControlHeader(control + SEND_OFF_TOS, 4, IPPROTO_IP, IP_TOS);
      this.table.layControlHeader(control + SEND_OFF_PKTINFO, 12, IPPROTO_IP, IP_PKTINFO);
      this.table.layControlHeader(control + SEND_OFF_SEGMENT, 2, SOL_UDP, UDP_SEGMENT);
    }
  }

  /** EIO: a device without checksum offload. EINVAL: more segments than this kernel takes, or longer than the link. */
  protected override failureOf(errno: number, packet: number): number {
    if (this.batch.segmentBytes(packet) > 0 && (errno === EIO || errno === EINVAL)) return SEND_UNSEGMENTED;
    return super.failureOf(errno, packet);
  }

  protected layAddresses(): void {
    const { batch, table } = this;
    const { view, words } = table;
    for (let packet = 0; packet < batch.packetCount; packet++) {
      const control = table.controlOf(packet);
      const segmentBytes = batch.segmentBytes(packet);
      table.setControlLength(packet, segmentBytes > 0 ? SEND_CONTROL_BYTES : SEND_OFF_SEGMENT);
      words[(control + SEND_OFF_TOS + CMSG_HEADER_BYTES) >>> 2] = batch.tos(packet);
      view.setUint32(control + SEND_OFF_PKTINFO + CMSG_HEADER_BYTES + PKTINFO_OFF_SPEC_DST, batch.source);
      view.setUint16(control + SEND_OFF_SEGMENT + CMSG_HEADER_BYTES, segmentBytes, true);
      layAddress(view, table.nameOf(packet), batch.destination(packet), batch.port(packet));
    }
  }
}
