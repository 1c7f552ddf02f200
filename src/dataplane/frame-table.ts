/**
 * Peers that we can reach by frames of our own, past the kernel's IP output: by slot the interface and the Ethernet
 * header. Somebody else finds and follows them (agent/frame-ways.ts). A peer without one, or whose turn it is, goes
 * by the raw socket.
 *
 * Its turn: the kernel does not see our frames, so nothing of it would ask whether the next hop is still there. One
 * packet a second goes the kernel's way, which makes it look (STALE -> DELAY -> PROBE) and tell us what it found. So a
 * next hop that is held STALE gets frames at once, unconfirmed: it gets the kernel's own packets so, too, which asks
 * after 5 s of DELAY only. We are a second later than that at most, and after a pause not at all: its first packet is
 * the kernel's.
 */
import { enlarged } from '../base/enlarged.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.ts';
import { VIRTIO_NET_HEADER_BYTES } from '../wire/virtio-net-header.ts';

const KERNELS_TURN_MS = 1000;

export interface FrameWay {
  readonly peer: Ipv4;
  readonly interfaceIndex: number;
  /** The Ethernet header: next hop, ourselves, IPv4. */
  readonly header: Uint8Array;
}

/** What a frame has before the outer header: a virtio-net header for the packet socket, and the Ethernet header. */
export const FRAME_HEADER_BYTES = VIRTIO_NET_HEADER_BYTES + ETHERNET_HEADER_BYTES;
/**
 * The kernel puts as much of a frame into one piece of memory as the virtio-net header's length says; of a frame larger
 * than a page it would be 14 bytes otherwise, and two or three pieces more for the rest (docs/performance.md). Up to here
 * that piece, with the kernel's own part of it, is 32 KB, which the page allocator keeps at hand; larger ones are hard to find.
 */
const ONE_PIECE_BYTES = 32_000;

/** A record of a slot, in words: the interface; the virtio-net header's last half word, always 0, and the Ethernet header. */
const WAY_INTERFACE = 0;
const WAY_HEADER = 1;
const WAY_WORDS = 5;
const FIRST_SLOTS = 64;

export class FrameTable {
  /** Grows with each change: what was read before may be kept as long as it stays the same. */
  changes = 0;
  #records = new Int32Array(FIRST_SLOTS * WAY_WORDS);
  #kernelsTurnMs = new Float64Array(FIRST_SLOTS);
  /** Whether there is any way at all. */
  used = false;

  set(slot: number, way: FrameWay): void {
    this.changes++;
    this.#reserve(slot);
    const at = slot * WAY_WORDS;
    const header = new DataView(way.header.buffer, way.header.byteOffset, ETHERNET_HEADER_BYTES);
    this.#records[at + WAY_INTERFACE] = way.interfaceIndex;
    this.#records[at + WAY_HEADER] = header.getUint16(0);
    for (let word = 0; word < 3; word++)
      this.#records[at + WAY_HEADER + 1 + word] = header.getInt32(2 + word * 4);
    this.used = true;
  }

  forget(slot: number): void {
    this.changes++;
    if (slot < this.#kernelsTurnMs.length) this.#records[slot * WAY_WORDS + WAY_INTERFACE] = 0;
  }

  clear(): void {
    this.changes++;
    this.#records.fill(0);
    this.used = false;
  }

  /** 0 where there is no way. */
  interfaceOf(slot: number): number {
    const at = slot * WAY_WORDS + WAY_INTERFACE;
    return at < this.#records.length ? this.#records[at]! : 0;
  }

  /** Whether this packet is the one in a second that shows itself to the kernel. */
  isKernelsTurn(slot: number, nowMs: number): boolean {
    if (nowMs < this.#kernelsTurnMs[slot]!) return false;
    this.#kernelsTurnMs[slot] = nowMs + KERNELS_TURN_MS;
    return true;
  }

  /** Writes the FRAME_HEADER_BYTES of a frame to `slot` at `at`; `bytes`: of the frame, from the Ethernet header on. */
  writeHeader(slot: number, words: DataView, at: number, bytes: number): void {
    const from = slot * WAY_WORDS + WAY_HEADER;
    // No flags, no GSO type, and the length (little-endian) in the upper half of the word.
    words.setInt32(at, bytes <= ONE_PIECE_BYTES ? bytes << 16 : 0, true);
    words.setInt32(at + 4, 0);
    words.setInt32(at + 8, this.#records[from]!);
    words.setInt32(at + 12, this.#records[from + 1]!);
    words.setInt32(at + 16, this.#records[from + 2]!);
    words.setInt32(at + 20, this.#records[from + 3]!);
  }

  #reserve(slot: number): void {
    if (slot < this.#kernelsTurnMs.length) return;
    const size = 2 ** Math.ceil(Math.log2(slot + 1));
    this.#records = enlarged(this.#records, new Int32Array(size * WAY_WORDS));
    this.#kernelsTurnMs = enlarged(this.#kernelsTurnMs, new Float64Array(size));
  }
}
