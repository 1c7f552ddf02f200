/**
 * Whether the host's stack has an answer by the time that a packet has been written to the TUN, as to a ping or to a
 * segment of TCP. Where it has, the TUN is read at once, without asking whether it is readable; where it had none several
 * times in a row, that read would be in vain, and delay whoever the packet woke on this processor. Pure.
 */

/** Reads in vain, one upon the other, before it is given up. */
const MISSES = 4;
/** Of what comes in then, how often it is tried anew. */
const TRY_EVERY = 32;

export class PromptAnswers {
  #misses = 0;

  /** Whether to read now; to be asked once for each batch written. */
  isDue(): boolean {
    if (this.#misses < MISSES) return true;
    this.#misses++;
    return this.#misses % TRY_EVERY === 0;
  }

  /** What a read that was due found. */
  found(packets: number): void {
    if (packets > 0) this.#misses = 0;
    else if (this.#misses < MISSES) this.#misses++;
  }
}
