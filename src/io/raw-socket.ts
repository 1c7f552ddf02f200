/**
 * Protocol 4 by raw sockets: the kernel routes, resolves neighbours, reassembles and filters.
 *
 * Sending is by IPPROTO_RAW, whose packets begin with our own outer header (the kernel fills total length and
 * checksum, and the source where it is 0). IPsec policies and rules of policy routing are looked up as for protocol
 * 255, unless each packet's control data says that it is protocol 4: else a policy for that would not be seen, and what
 * it is to encrypt would leave in the clear. Kernels before mid-2023 cannot be told.
 *
 * Receiving is by a second socket of protocol 4, which delivers the outer header too. With its buffer full the kernel
 * takes the packet for undelivered and answers the sender with ICMP protocol unreachable, hence a guard: a second
 * socket that takes every packet and keeps none.
 */
import { type PacketBatch, type PacketSource, type PieceBatch, SLOT_BYTES } from '../dataplane/ports.ts';
import { Arena } from './arena.ts';
import { systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import {
  CMSG_HEADER_BYTES,
  layAddress,
  layReceiveTable,
  MMSGHDR_BYTES,
  MMSGHDR_OFF_LEN,
  SOCKADDR_IN_BYTES,
} from './message-table.ts';
import {
  AF_INET,
  ICMP_FILTER,
  IPPROTO_ICMP,
  IPPROTO_IP,
  IPPROTO_IPIP,
  IPPROTO_RAW,
  integerBytes,
  MSG_DONTWAIT,
  openSocket,
  SOCK_RAW,
  SOL_RAW,
  SOL_SOCKET,
  setBufferSizes,
} from './socket-options.ts';
import { SocketSink } from './socket-sink.ts';

/** Measured elsewhere as what a 10 Gbit/s stream of superpackets needs; the kernel doubles it for bookkeeping. */
const SOCKET_BUFFER_BYTES = 8 << 20;

const SO_ATTACH_FILTER = 26;
const BPF_RET_K = 0x06;
const IP_PROTOCOL = 52;
/** One int behind its head, and what aligns the next. */
const PROTOCOL_CONTROL_BYTES = CMSG_HEADER_BYTES + 8;
const ICMP_DESTINATION_UNREACHABLE = 3;
const ICMP_TIME_EXCEEDED = 11;

/** The sending socket, in the calling thread's namespace. */
export function openRawSender(): number {
  const fd = openSocket(AF_INET, SOCK_RAW, IPPROTO_RAW, 'the raw socket that sends protocol 4');
  setBufferSizes(fd, SOCKET_BUFFER_BYTES);
  return fd;
}

/** The receiving socket; from here on the host answers protocol 4 no longer with "protocol unreachable". */
export function openRawReceiver(): number {
  const fd = openSocket(AF_INET, SOCK_RAW, IPPROTO_IPIP, 'the raw socket that receives protocol 4');
  setBufferSizes(fd, SOCKET_BUFFER_BYTES);
  return fd;
}

/**
 * A socket of protocol 4 whose filter drops all: never full, so that an overload of the receiver is loss, and not
 * "there is nobody here" to the peers. Costs the kernel a clone of the packet's head each.
 */
export function openRawGuard(): number {
  const fd = openSocket(AF_INET, SOCK_RAW, IPPROTO_IPIP, 'the raw socket that guards protocol 4');
  const arena = new Arena(64);
  // struct sock_filter: one instruction, BPF_RET | BPF_K with 0, "keep no byte".
  const filter = arena.allocate(8, 8);
  arena.view.setUint16(filter, BPF_RET_K, true);
  const program = new Uint8Array(16);
  const view = new DataView(program.buffer);
  view.setUint16(0, 1, true);
  view.setBigUint64(8, BigInt(arena.base + filter), true);
  if (systemCalls().setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, program.length) < 0) {
    const error = systemCallFailed('setting SO_ATTACH_FILTER');
    systemCalls().close(fd);
    throw error;
  }
  return fd;
}

/** A socket that receives the ICMP errors a router or host sends about our outer packets, and no other ICMP. */
export function openIcmpErrorReceiver(): number {
  const fd = openSocket(AF_INET, SOCK_RAW, IPPROTO_ICMP, 'the raw socket that receives ICMP errors');
  // struct icmp_filter: a set bit is a type that is not delivered.
  const blocked = ~((1 << ICMP_DESTINATION_UNREACHABLE) | (1 << ICMP_TIME_EXCEEDED));
  if (systemCalls().setsockopt(fd, SOL_RAW, ICMP_FILTER, integerBytes(blocked), 4) < 0)
    throw systemCallFailed('setting ICMP_FILTER');
  return fd;
}

/** Packets that arrive on a datagram socket, many in one recvmmsg. */
export class MessageSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #fd: number;
  readonly #table: number;
  readonly #address: number;
  readonly #words: Int32Array;
  readonly #calls = systemCalls();

  constructor(fd: number, arena: Arena, batch: PacketBatch, slotBytes = SLOT_BYTES) {
    this.#fd = fd;
    this.batch = batch;
    this.#table = layReceiveTable(arena, batch, slotBytes);
    this.#address = arena.base + this.#table;
    this.#words = new Int32Array(arena.bytes.buffer);
  }

  receive(): number {
    const { batch } = this;
    // A negative result is "nothing there", or an error queued on the socket that concerns no packet of this batch.
    const count = this.#calls.recvmmsg(this.#fd, this.#address, batch.capacity, MSG_DONTWAIT, 0);
    batch.count = count > 0 ? count : 0;
    for (let i = 0; i < count; i++)
      batch.setLength(i, this.#words[(this.#table + i * MMSGHDR_BYTES + MMSGHDR_OFF_LEN) >>> 2]!);
    return batch.count;
  }
}

/** Whether the kernel takes the protocol as control data: it tells the socket's since the same version. */
function takesProtocol(fd: number): boolean {
  return systemCalls().getsockopt(fd, IPPROTO_IP, IP_PROTOCOL, new Uint8Array(4), integerBytes(4)) === 0;
}

/** Packets that leave by a raw socket. */
export class MessageSink extends SocketSink {
  constructor(fd: number, arena: Arena, batch: PieceBatch) {
    const controlBytes = takesProtocol(fd) ? PROTOCOL_CONTROL_BYTES : 0;
    super(fd, arena, batch, SOCKADDR_IN_BYTES, controlBytes);
    for (let i = 0; i < batch.packetCapacity; i++) {
      arena.view.setUint16(this.table.nameOf(i), AF_INET, true);
      if (controlBytes === 0) continue;
      const control = this.table.controlOf(i);
      this.table.layControlHeader(control, 4, IPPROTO_IP, IP_PROTOCOL);
      arena.view.setInt32(control + CMSG_HEADER_BYTES, IPPROTO_IPIP, true);
      this.table.setControlLength(i, controlBytes);
    }
  }

  protected layAddresses(): void {
    const { batch, table } = this;
    for (let packet = 0; packet < batch.packetCount; packet++)
      layAddress(table.view, table.nameOf(packet), batch.destination(packet), 0);
  }
}
