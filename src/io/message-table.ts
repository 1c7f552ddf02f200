/** Tables of struct mmsghdr and iovec in the arena, for the sockets that move batches: laid at set-up, adjusted per batch. */
import type { PacketBatch, PieceBatch } from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import { EINTR } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MSG_DONTWAIT } from './socket-options.ts';

export const MMSGHDR_BYTES = 64;
export const MMSGHDR_OFF_NAMELEN = 8;
/** The pointer to the vectors, and their number. */
const MMSGHDR_OFF_IOV = 16;
const MMSGHDR_OFF_IOVLEN = 24;
export const MMSGHDR_OFF_CONTROL = 32;
export const MMSGHDR_OFF_CONTROLLEN = 40;
export const MMSGHDR_OFF_LEN = 56;
const IOVEC_BYTES = 16;
export const SOCKADDR_IN_BYTES = 16;
/** struct cmsghdr, which the data of each piece of control data follows. */
export const CMSG_HEADER_BYTES = 16;

/** Messages that each receive into a slot of the batch, by one vector of `slotBytes`; gives where the table begins. */
export function layReceiveTable(arena: Arena, batch: PacketBatch, slotBytes: number): number {
  const table = arena.allocate(batch.capacity * MMSGHDR_BYTES, 64);
  const vectors = arena.allocate(batch.capacity * IOVEC_BYTES, 16);
  for (let i = 0; i < batch.capacity; i++) {
    const vector = vectors + i * IOVEC_BYTES;
    arena.writePointer(vector, batch.offset(i));
    arena.view.setUint32(vector + 8, slotBytes, true);
    const header = table + i * MMSGHDR_BYTES;
    arena.writePointer(header + MMSGHDR_OFF_IOV, vector);
    arena.view.setUint32(header + MMSGHDR_OFF_IOVLEN, 1, true);
  }
  return table;
}

export function layAddress(view: DataView, name: number, address: number, port: number): void {
  view.setUint16(name + 2, port);
  view.setUint32(name + 4, address);
}

/** The messages that carry a batch to a socket: one for each packet, gathered from its pieces. */
export class SendTable {
  readonly words: Uint32Array;
  readonly view: DataView;
  /** Why `send` stopped early. */
  errno = 0;
  readonly #batch: PieceBatch;
  readonly #base: number;
  readonly #headers: number;
  readonly #names: number;
  readonly #nameBytes: number;
  readonly #control: number;
  readonly #controlBytes: number;
  readonly #calls = systemCalls();

  /** Each message's address has `nameBytes`, and its control data room for `controlBytes`. */
  constructor(arena: Arena, batch: PieceBatch, nameBytes: number, controlBytes = 0) {
    const { packetCapacity } = batch;
    this.words = new Uint32Array(arena.bytes.buffer);
    this.view = arena.view;
    this.#batch = batch;
    this.#base = arena.base;
    this.#nameBytes = nameBytes;
    this.#controlBytes = controlBytes;
    this.#headers = arena.allocate(packetCapacity * MMSGHDR_BYTES, 64);
    this.#names = arena.allocate(packetCapacity * nameBytes, 16);
    this.#control = arena.allocate(packetCapacity * controlBytes, 16);
    for (let i = 0; i < packetCapacity; i++) {
      const header = this.#headers + i * MMSGHDR_BYTES;
      arena.writePointer(header, this.nameOf(i));
      arena.view.setUint32(header + MMSGHDR_OFF_NAMELEN, nameBytes, true);
      arena.writePointer(header + MMSGHDR_OFF_IOV, batch.vector(0));
      if (controlBytes > 0) arena.writePointer(header + MMSGHDR_OFF_CONTROL, this.controlOf(i));
    }
  }

  /** Where message i's address lies. */
  nameOf(i: number): number {
    return this.#names + i * this.#nameBytes;
  }

  controlOf(i: number): number {
    return this.#control + i * this.#controlBytes;
  }

  /** The head of a piece of control data with `bytes` of data. */
  layControlHeader(at: number, bytes: number, level: number, type: number): void {
    this.view.setUint32(at, CMSG_HEADER_BYTES + bytes, true);
    this.view.setInt32(at + 8, level, true);
    this.view.setInt32(at + 12, type, true);
  }

  /** How much of its control data message i has. */
  setControlLength(i: number, bytes: number): void {
    this.words[(this.#headers + i * MMSGHDR_BYTES + MMSGHDR_OFF_CONTROLLEN) >>> 2] = bytes;
  }

  /**
   * Points the messages at the batch's pieces; addresses and control data are the socket's to write. The upper
   * halves of all pointers were written at set-up: the arena does not cross a multiple of 4 GB.
   */
  lay(): void {
    const batch = this.#batch;
    const { words } = this;
    for (let packet = 0; packet < batch.packetCount; packet++) {
      const first = batch.firstPiece(packet);
      const word = (this.#headers + packet * MMSGHDR_BYTES + MMSGHDR_OFF_IOV) >>> 2;
      words[word] = this.#base + batch.vector(first);
      words[word + 2] = batch.endPiece(packet) - first;
    }
  }

  /** Sends the messages from `from` on and returns how many were taken; where fewer than all, `errno` says why. */
  send(fd: number, from: number): number {
    const wanted = this.#batch.packetCount - from;
    let sent = 0;
    this.errno = 0;
    while (sent < wanted) {
      const address = this.#base + this.#headers + (from + sent) * MMSGHDR_BYTES;
      const count = this.#calls.sendmmsg(fd, address, wanted - sent, MSG_DONTWAIT);
      if (count > 0) {
        // A short count hides the error of the packet after the last one sent: the next call shows it.
        sent += count;
        continue;
      }
      const errno = this.#calls.errno();
      if (errno === EINTR) continue;
      this.errno = errno;
      break;
    }
    return sent;
  }
}
