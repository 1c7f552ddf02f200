/**
 * What the underlay's routers said about the way to each peer: soft state by the peer's slot, since their
 * messages often quote too little of the inner packet to be passed on at once (RFC 2003 §5).
 */
import { enlarged } from '../base/enlarged.ts';
import { MIN_MTU } from '../ip/mtu.ts';

/** RFC 1191 §6.3: a larger packet is not tried again before 10 minutes. */
const PATH_MTU_LIFETIME_MS = 10 * 60 * 1000;
/** As Linux' tunnels: an error reported within the last 30 s is told to the next inner sender. */
const UNREACHABLE_LIFETIME_MS = 30 * 1000;
/** Errors remembered per peer, each answered once; more would only come from a flood. */
const MAX_PENDING = 8;

/** A record of a slot, in words: the MTU learned (0: none), and the errors to be told. */
const PATH_MTU = 0;
const PATH_PENDING = 1;
const PATH_WORDS = 2;
/** The same of when they end. */
const UNTIL_MTU = 0;
const UNTIL_PENDING = 1;
const FIRST_SLOTS = 64;

export class PathState {
  /** Grows with each change: what was read before may be kept as long as it stays the same. */
  changes = 0;
  #records = new Int32Array(FIRST_SLOTS * PATH_WORDS);
  #untilMs = new Float64Array(FIRST_SLOTS * PATH_WORDS);
  readonly #clock: () => number;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** The underlay MTU to use towards the peer: as configured, or lower where ICMP said so. */
  effectiveMtu(slot: number, configured: number): number {
    const at = slot * PATH_WORDS;
    const learned = at < this.#records.length ? this.#records[at + PATH_MTU]! : 0;
    if (learned === 0 || learned >= configured) return configured;
    if (this.#untilMs[at + UNTIL_MTU]! > this.#clock()) return learned;
    this.#records[at + PATH_MTU] = 0;
    return configured;
  }

  /** Takes over a reported path MTU; a larger one than known waits for the lifetime's end. */
  learnMtu(slot: number, mtu: number): void {
    this.changes++;
    const at = this.#reserve(slot);
    const nowMs = this.#clock();
    const known = this.#records[at + PATH_MTU]!;
    if (known !== 0 && known < mtu && this.#untilMs[at + UNTIL_MTU]! > nowMs) return;
    this.#records[at + PATH_MTU] = Math.max(mtu, MIN_MTU);
    this.#untilMs[at + UNTIL_MTU] = nowMs + PATH_MTU_LIFETIME_MS;
  }

  /** Remembers that the peer was reported unreachable. */
  noteUnreachable(slot: number): void {
    this.changes++;
    const at = this.#reserve(slot);
    if (this.#records[at + PATH_PENDING]! < MAX_PENDING) this.#records[at + PATH_PENDING]!++;
    this.#untilMs[at + UNTIL_PENDING] = this.#clock() + UNREACHABLE_LIFETIME_MS;
  }

  /** Whether an inner sender is to be told that the peer is unreachable; each report is told once. */
  takeUnreachable(slot: number): boolean {
    const at = slot * PATH_WORDS;
    if (at >= this.#records.length || this.#records[at + PATH_PENDING] === 0) return false;
    if (this.#untilMs[at + UNTIL_PENDING]! <= this.#clock()) {
      this.#records[at + PATH_PENDING] = 0;
      return false;
    }
    this.#records[at + PATH_PENDING]!--;
    return true;
  }

  /** Forgets everything about a slot that goes to another peer. */
  forget(slot: number): void {
    this.changes++;
    this.#records.fill(0, slot * PATH_WORDS, (slot + 1) * PATH_WORDS);
  }

  /** Where the slot's record is, made where there was no room for it. */
  #reserve(slot: number): number {
    const at = slot * PATH_WORDS;
    if (at >= this.#records.length) {
      const words = 2 ** Math.ceil(Math.log2(slot + 1)) * PATH_WORDS;
      this.#records = enlarged(this.#records, new Int32Array(words));
      this.#untilMs = enlarged(this.#untilMs, new Float64Array(words));
    }
    return at;
  }
}
