/**
 * Time as the packet threads ask for it: the call is on their way anyway, and `performance.now()` is a check of who asks, a builtin
 * and a function beside it, all cold when a packet has woken the thread.
 */
import type { Arena } from './arena.ts';
import { systemCalls } from './libc.ts';

const CLOCK_MONOTONIC = 1;
const CLOCK_THREAD_CPUTIME_ID = 3;
const TIMESPEC_BYTES = 16;

export class ThreadClock {
  readonly #view: DataView;
  readonly #timespec: number;
  readonly #address: number;
  readonly #calls = systemCalls();

  constructor(arena: Arena) {
    this.#view = arena.view;
    this.#timespec = arena.allocate(TIMESPEC_BYTES, 8);
    this.#address = arena.base + this.#timespec;
  }

  /** Milliseconds of the clock that all threads share, since the machine was started. */
  monotonicMs(): number {
    return this.#read(CLOCK_MONOTONIC);
  }

  /** Milliseconds of processor time since the thread was started. Not the time that it waited for a processor. */
  processorMs(): number {
    return this.#read(CLOCK_THREAD_CPUTIME_ID);
  }

  #read(clock: number): number {
    this.#calls.clockGettime(clock, this.#address);
    // Seconds as 32 bits: 68 years.
    const seconds = this.#view.getInt32(this.#timespec, true);
    return seconds * 1000 + this.#view.getInt32(this.#timespec + 8, true) / 1e6;
  }
}
