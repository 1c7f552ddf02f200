/**
 * Packets that have no route yet. The kernel routes by its new route at once, the message about it reaches us a
 * moment later: what arrives in between waits here for the table to change, bounded in time, number and bytes.
 * A packet is copied behind headroom of its own, as a received one lies, and is counted only when it leaves.
 */
import { HEADROOM_BYTES, type MonotonicMs, type PacketMemory } from './ports.ts';

/** Longer than a message takes on a busy machine, shorter than anything that retransmits. */
export const HOLD_MS = 250;
const HOLD_PACKETS = 256;
const HOLD_BYTES = 512 << 10;
const ALIGNMENT = 64;

export class UnroutedHold {
  readonly #bytes: Uint8Array;
  readonly #clock: MonotonicMs;
  readonly #area: number;
  readonly #offset = new Int32Array(HOLD_PACKETS);
  readonly #length = new Int32Array(HOLD_PACKETS);
  readonly #untilMs = new Float64Array(HOLD_PACKETS);
  #count = 0;
  #used = 0;

  constructor(memory: PacketMemory, clock: MonotonicMs) {
    this.#bytes = memory.bytes;
    this.#clock = clock;
    this.#area = memory.allocate(HOLD_BYTES, ALIGNMENT);
  }

  get count(): number {
    return this.#count;
  }

  /** Takes a copy of what lies at `at`; false where there is no room. */
  keep(at: number, length: number): boolean {
    const size = (HEADROOM_BYTES + length + ALIGNMENT - 1) & -ALIGNMENT;
    if (this.#count === HOLD_PACKETS || this.#used + size > HOLD_BYTES) return false;
    const copy = this.#area + this.#used + HEADROOM_BYTES;
    this.#bytes.copyWithin(copy, at, at + length);
    this.#offset[this.#count] = copy;
    this.#length[this.#count] = length;
    this.#untilMs[this.#count] = this.#clock() + HOLD_MS;
    this.#count++;
    this.#used += size;
    return true;
  }

  /** How long until the oldest has waited long enough; -1 where there is none. */
  remainingMs(): number {
    return this.#count === 0 ? -1 : Math.max(0, Math.ceil(this.#untilMs[0]! - this.#clock()));
  }

  /**
   * Offers each packet in the order of arrival; `last` says that its time is up. Where `take` says false the
   * packet stays. Room is free again once all have left: a wait is short.
   */
  offer(take: (at: number, length: number, last: boolean) => boolean, endNow = false): void {
    const nowMs = this.#clock();
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const last = endNow || this.#untilMs[i]! <= nowMs;
      if (take(this.#offset[i]!, this.#length[i]!, last)) continue;
      this.#offset[kept] = this.#offset[i]!;
      this.#length[kept] = this.#length[i]!;
      this.#untilMs[kept++] = this.#untilMs[i]!;
    }
    this.#count = kept;
    if (kept === 0) this.#used = 0;
  }
}
