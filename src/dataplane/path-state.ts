/**
 * What the underlay's routers said about the way to each peer: soft state by the peer's slot, since their
 * messages often quote too little of the inner packet to be passed on at once (RFC 2003 §5).
 */
import { MIN_MTU } from '../ip/mtu.ts';

/** RFC 1191 §6.3: a larger packet is not tried again before 10 minutes. */
const PATH_MTU_LIFETIME_MS = 10 * 60 * 1000;
/** As Linux' tunnels: an error reported within the last 30 s is told to the next inner sender. */
const UNREACHABLE_LIFETIME_MS = 30 * 1000;
/** Errors remembered per peer, each answered once; more would only come from a flood. */
const MAX_PENDING = 8;

export class PathState {
  #mtu = new Int32Array(64);
  #mtuUntilMs = new Float64Array(64);
  #pending = new Uint8Array(64);
  #pendingUntilMs = new Float64Array(64);
  readonly #clock: () => number;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** The underlay MTU to use towards the peer: as configured, or lower where ICMP said so. */
  effectiveMtu(slot: number, configured: number): number {
    const learned = slot < this.#mtu.length ? this.#mtu[slot]! : 0;
    if (learned === 0 || learned >= configured) return configured;
    if (this.#mtuUntilMs[slot]! > this.#clock()) return learned;
    this.#mtu[slot] = 0;
    return configured;
  }

  /** Takes over a reported path MTU; a larger one than known waits for the lifetime's end. */
  learnMtu(slot: number, mtu: number): void {
    this.#reserve(slot);
    const nowMs = this.#clock();
    const known = this.#mtu[slot]!;
    if (known !== 0 && known < mtu && this.#mtuUntilMs[slot]! > nowMs) return;
    this.#mtu[slot] = Math.max(mtu, MIN_MTU);
    this.#mtuUntilMs[slot] = nowMs + PATH_MTU_LIFETIME_MS;
  }

  /** Remembers that the peer was reported unreachable. */
  noteUnreachable(slot: number): void {
    this.#reserve(slot);
    if (this.#pending[slot]! < MAX_PENDING) this.#pending[slot]!++;
    this.#pendingUntilMs[slot] = this.#clock() + UNREACHABLE_LIFETIME_MS;
  }

  /** Whether an inner sender is to be told that the peer is unreachable; each report is told once. */
  takeUnreachable(slot: number): boolean {
    if (slot >= this.#pending.length || this.#pending[slot] === 0) return false;
    if (this.#pendingUntilMs[slot]! <= this.#clock()) {
      this.#pending[slot] = 0;
      return false;
    }
    this.#pending[slot]!--;
    return true;
  }

  /** Forgets everything about a slot that goes to another peer. */
  forget(slot: number): void {
    if (slot >= this.#mtu.length) return;
    this.#mtu[slot] = 0;
    this.#pending[slot] = 0;
  }

  #reserve(slot: number): void {
    if (slot < this.#mtu.length) return;
    const size = 2 ** Math.ceil(Math.log2(slot + 1));
    this.#mtu = enlarged(this.#mtu, new Int32Array(size));
    this.#mtuUntilMs = enlarged(this.#mtuUntilMs, new Float64Array(size));
    this.#pending = enlarged(this.#pending, new Uint8Array(size));
    this.#pendingUntilMs = enlarged(this.#pendingUntilMs, new Float64Array(size));
  }
}

function enlarged<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
