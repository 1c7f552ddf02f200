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
import type { Ipv4 } from '../ip/ipv4.ts';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.ts';

const KERNELS_TURN_MS = 1000;

export interface FrameWay {
  readonly peer: Ipv4;
  readonly interfaceIndex: number;
  /** The Ethernet header: next hop, ourselves, IPv4. */
  readonly header: Uint8Array;
}

export class FrameTable {
  #interfaceIndex = new Int32Array(64);
  #headers = new Uint8Array(64 * ETHERNET_HEADER_BYTES);
  #kernelsTurnMs = new Float64Array(64);
  /** Whether there is any way at all. */
  used = false;

  set(slot: number, way: FrameWay): void {
    this.#reserve(slot);
    this.#interfaceIndex[slot] = way.interfaceIndex;
    this.#headers.set(way.header, slot * ETHERNET_HEADER_BYTES);
    this.used = true;
  }

  forget(slot: number): void {
    if (slot < this.#interfaceIndex.length) this.#interfaceIndex[slot] = 0;
  }

  clear(): void {
    this.#interfaceIndex.fill(0);
    this.used = false;
  }

  /** 0 where there is no way. */
  interfaceOf(slot: number): number {
    return slot < this.#interfaceIndex.length ? this.#interfaceIndex[slot]! : 0;
  }

  /** Whether this packet is the one in a second that shows itself to the kernel. */
  isKernelsTurn(slot: number, nowMs: number): boolean {
    if (nowMs < this.#kernelsTurnMs[slot]!) return false;
    this.#kernelsTurnMs[slot] = nowMs + KERNELS_TURN_MS;
    return true;
  }

  writeHeader(slot: number, view: Uint8Array, at: number): void {
    const from = slot * ETHERNET_HEADER_BYTES;
    for (let i = 0; i < ETHERNET_HEADER_BYTES; i++) view[at + i] = this.#headers[from + i]!;
  }

  #reserve(slot: number): void {
    if (slot < this.#interfaceIndex.length) return;
    const size = 2 ** Math.ceil(Math.log2(slot + 1));
    const [interfaceIndex, headers, turns] = [this.#interfaceIndex, this.#headers, this.#kernelsTurnMs];
    this.#interfaceIndex = new Int32Array(size);
    this.#interfaceIndex.set(interfaceIndex);
    this.#headers = new Uint8Array(size * ETHERNET_HEADER_BYTES);
    this.#headers.set(headers);
    this.#kernelsTurnMs = new Float64Array(size);
    this.#kernelsTurnMs.set(turns);
  }
}
