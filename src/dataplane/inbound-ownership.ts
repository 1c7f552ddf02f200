/**
 * Which of the two packet threads reads the underlay (ADR 10). While there is little to do the first thread does all: a
 * round trip then wakes one thread of each host where it would wake two, and the answer that the host's stack gives
 * to a packet at once is read from the TUN without anybody being woken. A thread that is busy most of the time hands
 * the inbound direction to the second one, so that neither direction waits for the other; when both have had little
 * to do for a while it comes back.
 *
 * Exactly one thread reads at any time, so order is kept: who owns the direction gives it away between two batches,
 * when all that it received has been written, and stops polling; the other one begins after that. The direction has
 * no other state to move: both threads have its table, and counters of their own. Pure but for the shared words.
 */

/**
 * The share of a window above which a thread has too much to do: of processor time, so that waiting for a processor on
 * a machine that has none free is not taken for work that another thread could do.
 */
export const SATURATED_SHARE = 0.9;
/** Below this both have little to do: together still less than what is too much for one. */
export const CALM_SHARE = 0.35;
/** How long both must have little to do. Longer than the pauses of a stream: handing over costs two wake-ups. */
export const CALM_MS = 100;
/** How long a thread is watched before it is judged. */
export const WINDOW_MS = 5;

/** Which packet thread: the first has outbound always. */
export type ThreadNumber = 0 | 1;

const OWNER = 0;
/** When each thread was last found with more than little to do. */
const LOADED_MS = 1;
const WORDS = 3;

/** The first thread owns the direction in the beginning. */
export function createOwnershipMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
}

export interface OwnershipParts {
  readonly memory: SharedArrayBuffer;
  readonly self: ThreadNumber;
  /** By a clock that all threads share. */
  readonly nowMs: number;
  /** Begins and ends to poll the underlay. */
  readonly receive: (on: boolean) => void;
  /** Processor time that this thread has worked since it was started: costs a system call. */
  readonly workedMs: () => number;
  /** How long it has slept since then. */
  readonly sleptMs: () => number;
  /** Makes the other thread call `takeOver`, soon. */
  readonly wakeOther: () => void;
}

export class InboundOwnership {
  readonly #words: Int32Array;
  readonly #parts: OwnershipParts;
  readonly #self: ThreadNumber;
  #receives = false;
  #windowBeginMs: number;
  #sleptBeforeMs: number;
  /** NaN: not asked. */
  #workedBeforeMs: number;

  constructor(parts: OwnershipParts) {
    this.#parts = parts;
    this.#words = new Int32Array(parts.memory);
    this.#self = parts.self;
    this.#windowBeginMs = parts.nowMs;
    this.#sleptBeforeMs = parts.sleptMs();
    this.#workedBeforeMs = parts.workedMs();
  }

  /** Whether this thread polls the underlay. */
  get receives(): boolean {
    return this.#receives;
  }

  /** At the start and whenever something has woken this thread: begins to receive where the direction is its own now. */
  takeOver(): void {
    if (this.#receives || Atomics.load(this.#words, OWNER) !== this.#self) return;
    this.#receives = true;
    this.#parts.receive(true);
  }

  /** Between two batches: judges this thread, and gives the direction away where that is better; says whether it did. */
  settle(nowMs: number): boolean {
    const elapsedMs = nowMs - this.#windowBeginMs;
    if (elapsedMs < WINDOW_MS) return false;
    const share = this.#workedShare(elapsedMs);
    this.#windowBeginMs = nowMs;
    if (share > CALM_SHARE) Atomics.store(this.#words, LOADED_MS + this.#self, nowMs | 0);
    if (!this.#receives || !this.#isBetterOff(share, nowMs)) return false;
    this.#receives = false;
    this.#parts.receive(false);
    Atomics.store(this.#words, OWNER, 1 - this.#self);
    this.#parts.wakeOther();
    return true;
  }

  /**
   * Of the window that ends. A thread that slept through most of it is not asked how long it worked, which would be one
   * more thing between the packets of a round trip; the first window after that can only be found to be neither calm
   * nor saturated.
   */
  #workedShare(elapsedMs: number): number {
    const sleptMs = this.#parts.sleptMs();
    const awakeShare = 1 - (sleptMs - this.#sleptBeforeMs) / elapsedMs;
    this.#sleptBeforeMs = sleptMs;
    const beforeMs = this.#workedBeforeMs;
    const isCalm = awakeShare <= CALM_SHARE;
    this.#workedBeforeMs = isCalm ? Number.NaN : this.#parts.workedMs();
    if (isCalm) return awakeShare;
    return Number.isNaN(beforeMs)
      ? Math.min(awakeShare, SATURATED_SHARE)
      : (this.#workedBeforeMs - beforeMs) / elapsedMs;
  }

  /** Whether inbound is better off with the other thread. */
  #isBetterOff(share: number, nowMs: number): boolean {
    if (this.#self === 0) return share > SATURATED_SHARE;
    return this.#calmForMs(0, nowMs) >= CALM_MS && this.#calmForMs(1, nowMs) >= CALM_MS;
  }

  /** Milliseconds as a word of 32 bits, which wraps once in 49 days. */
  #calmForMs(thread: ThreadNumber, nowMs: number): number {
    return ((nowMs | 0) - Atomics.load(this.#words, LOADED_MS + thread)) >>> 0;
  }
}
