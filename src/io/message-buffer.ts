/**
 * One received message with its control data, for the sockets that are not on the packet path (capture, probe,
 * ICMP errors): a prebuilt struct msghdr over a buffer that holds the largest packet a kernel hands out.
 */
import { Arena } from './arena.ts';
import { EAGAIN, EINTR, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MSG_DONTWAIT, SO_TIMESTAMPNS, SOL_SOCKET } from './socket-options.ts';

/** 64 KB of IP packet, and room for a link-layer header with VLAN tags. */
const DATA_BYTES = 65536 + 64;
const NAME_BYTES = 32;
const CONTROL_BYTES = 128;
const MSGHDR_BYTES = 56;
const MSGHDR_OFF_NAMELEN = 8;
const MSGHDR_OFF_IOV = 16;
const MSGHDR_OFF_IOVLEN = 24;
const MSGHDR_OFF_CONTROL = 32;
const MSGHDR_OFF_CONTROLLEN = 40;
const CMSG_HEADER_BYTES = 16;

export class MessageBuffer {
  readonly arena = new Arena(DATA_BYTES + NAME_BYTES + CONTROL_BYTES + MSGHDR_BYTES + 64);
  readonly name = this.arena.allocate(NAME_BYTES);
  readonly data = this.arena.allocate(DATA_BYTES, 16);
  readonly #control = this.arena.allocate(CONTROL_BYTES);
  readonly #vector = this.arena.allocate(16);
  readonly #message = this.arena.allocate(MSGHDR_BYTES);

  constructor() {
    const { arena } = this;
    arena.writePointer(this.#vector, this.data);
    arena.view.setUint32(this.#vector + 8, DATA_BYTES, true);
    arena.writePointer(this.#message, this.name);
    arena.writePointer(this.#message + MSGHDR_OFF_IOV, this.#vector);
    arena.view.setUint32(this.#message + MSGHDR_OFF_IOVLEN, 1, true);
    arena.writePointer(this.#message + MSGHDR_OFF_CONTROL, this.#control);
  }

  /** Receives one message into `data`; its length, -1 where there is none, or the negative errno where the caller expects that. */
  receive(fd: number, what: string, expected: readonly number[] = []): number {
    const { view, base } = this.arena;
    const calls = systemCalls();
    for (;;) {
      view.setUint32(this.#message + MSGHDR_OFF_NAMELEN, NAME_BYTES, true);
      view.setUint32(this.#message + MSGHDR_OFF_CONTROLLEN, CONTROL_BYTES, true);
      const length = calls.recvmsg(fd, base + this.#message, MSG_DONTWAIT);
      if (length >= 0) return length;
      const errno = calls.errno();
      if (errno === EAGAIN) return -1;
      if (expected.includes(errno)) return -errno;
      if (errno !== EINTR) throw systemCallFailed(`receiving from ${what}`, errno);
    }
  }

  /** The kernel's time of arrival in nanoseconds since the epoch; undefined where SO_TIMESTAMPNS is off. */
  timestampNs(): bigint | undefined {
    const { view } = this.arena;
    const end = this.#control + view.getUint32(this.#message + MSGHDR_OFF_CONTROLLEN, true);
    for (let at = this.#control; at + CMSG_HEADER_BYTES <= end; ) {
      const length = view.getUint32(at, true);
      if (length < CMSG_HEADER_BYTES) return undefined;
      if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SO_TIMESTAMPNS)
        return view.getBigInt64(at + 16, true) * 1_000_000_000n + view.getBigInt64(at + 24, true);
      at += Math.ceil(length / 8) * 8;
    }
    return undefined;
  }
}
