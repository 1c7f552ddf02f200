/** The processor time of the calling thread. */
import type { Arena } from './arena.ts';
import { systemCalls } from './libc.ts';

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

  /** Milliseconds of processor time since the thread was started. Not the time that it waited for a processor. */
  processorMs(): number {
    this.#calls.clockGettime(CLOCK_THREAD_CPUTIME_ID, this.#address);
    // Seconds as 32 bits: 68 years.
    const seconds = this.#view.getInt32(this.#timespec, true);
    return seconds * 1000 + this.#view.getInt32(this.#timespec + 8, true) / 1e6;
  }
}
