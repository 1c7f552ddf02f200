/** How many bytes of garbage a piece of code leaves behind: what `scripts/bench micro` prints and tests bound. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { FailedError } from '../base/errors.ts';

/** Rounds at most: the compiler and whatever else runs in this process allocate, too, now and then. */
const ROUNDS = 40;

/**
 * Bytes of heap that one call of `work` leaves behind, once it is warm: the least of several rounds of `calls`
 * calls, since everything that disturbs a round adds to it. It stops at the first round of at most `enough`.
 *
 * A collection in the middle of a round would take back what the round allocated, and make it look clean: such
 * a round shows as a heap that shrank, and does not count.
 */
export function bytesAllocatedPerCall(work: () => void, calls: number, enough = 0): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < calls; i++) work();
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS && least > enough; round++) {
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < calls; i++) work();
    const grown = process.memoryUsage().heapUsed - before;
    if (grown >= 0) least = Math.min(least, grown / calls);
  }
  if (least === Number.POSITIVE_INFINITY)
    throw new FailedError(
      'ERR_BENCH',
      `the garbage collector ran in all ${ROUNDS} rounds of ${calls} calls: fewer calls a round say more`,
    );
  return least;
}
