/** Tables of struct mmsghdr and iovec in the arena, for the sockets that move batches: laid at set-up, adjusted per batch. */
import type { PieceBatch } from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import { AF_INET } from './socket-options.ts';

export const MMSGHDR_BYTES = 64;
export const MMSGHDR_OFF_NAMELEN = 8;
/** The pointer to the vectors, and their number. */
export const MMSGHDR_OFF_IOV = 16;
export const MMSGHDR_OFF_IOVLEN = 24;
export const MMSGHDR_OFF_CONTROL = 32;
export const MMSGHDR_OFF_CONTROLLEN = 40;
export const MMSGHDR_OFF_LEN = 56;
export const IOVEC_BYTES = 16;
export const SOCKADDR_IN_BYTES = 16;

/** One message: the address at `name`, and vectors from `vector` on. */
export function layMessageHeader(arena: Arena, header: number, name: number, vector: number): void {
  arena.view.setUint16(name, AF_INET, true);
  arena.writePointer(header, name);
  arena.view.setUint32(header + MMSGHDR_OFF_NAMELEN, SOCKADDR_IN_BYTES, true);
  arena.writePointer(header + MMSGHDR_OFF_IOV, vector);
}

export function layAddress(view: DataView, name: number, address: number, port: number): void {
  view.setUint16(name + 2, port);
  view.setUint32(name + 4, address);
}

/**
 * The vectors of all pieces. The upper halves of all pointers were written at set-up: the arena does not cross a
 * multiple of 4 GB.
 */
export function layPieces(words: Uint32Array, base: number, vectors: number, batch: PieceBatch): void {
  for (let piece = 0; piece < batch.pieceCount; piece++) {
    const word = (vectors + piece * IOVEC_BYTES) >>> 2;
    words[word] = base + batch.offset[piece]!;
    words[word + 2] = batch.length[piece]!;
  }
}
