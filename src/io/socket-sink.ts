/**
 * What the sockets that send have in common: packets of a batch leave in as few calls of sendmmsg as the kernel
 * allows, each gathered from its pieces. What a packet's address looks like is each socket's own.
 */
import {
  type PacketSink,
  type PieceBatch,
  SEND_AGAIN,
  SEND_DOWN,
  SEND_FORBIDDEN,
  SEND_NO_ROUTE,
  SEND_OK,
  SEND_REFUSED,
  SEND_TOO_BIG,
} from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import {
  EAGAIN,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOBUFS,
  ENODEV,
  ENXIO,
  EPERM,
} from './errno.ts';
import { SendTable } from './message-table.ts';

export abstract class SocketSink implements PacketSink {
  readonly batch: PieceBatch;
  failure = SEND_OK;
  protected readonly table: SendTable;
  readonly #fd: number;

  constructor(fd: number, arena: Arena, batch: PieceBatch, nameBytes: number, controlBytes = 0) {
    this.#fd = fd;
    this.batch = batch;
    this.table = new SendTable(arena, batch, nameBytes, controlBytes);
  }

  /** Writes the address, and control data where there is any, of each message. */
  protected abstract layAddresses(): void;

  /** What an errno means to the packet loop, of the message of `packet`. */
  protected failureOf(errno: number, _packet: number): number {
    if (errno === EAGAIN || errno === ENOBUFS) return SEND_AGAIN;
    if (errno === EMSGSIZE) return SEND_TOO_BIG;
    if (errno === ENETUNREACH || errno === EHOSTUNREACH) return SEND_NO_ROUTE;
    // Netfilter's DROP in OUTPUT is seen by the sender as EPERM.
    if (errno === EPERM) return SEND_FORBIDDEN;
    // ENXIO, ENODEV: a packet socket's interface has gone.
    if (errno === ENETDOWN || errno === ENXIO || errno === ENODEV) return SEND_DOWN;
    return SEND_REFUSED;
  }

  send(from: number): number {
    const { table } = this;
    if (from === 0) {
      table.lay();
      this.layAddresses();
    }
    const sent = table.send(this.#fd, from);
    this.failure = table.errno === 0 ? SEND_OK : this.failureOf(table.errno, from + sent);
    return sent;
  }
}
