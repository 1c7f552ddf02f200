/**
 * A packet thread's life: wait, run a batch of each source that has something to completion, take over changes between
 * batches. Nothing else runs on the thread, and an idle one waits in one system call.
 */
import { FailedError } from '../base/errors.ts';
import { READY_BROKEN, READY_SOURCE, READY_WAKE, type Waiter } from './ports.ts';

/** A source that says "ready" this often in a row and gives nothing is gone. */
const BROKEN_LIMIT = 8;

/** What runs one batch of a source. */
export interface PacketStep {
  /** Runs one batch and returns its size; `quiet`: a single packet is most likely all that there is. */
  run(quiet: boolean): number;
  /** The size of a full batch. */
  readonly capacity: number;
  /**
   * A short pause, after several packets but no full batch from this source, and nothing from others: more of the
   * same train are on their way one by one, and to take many at once is cheaper than each as it comes. A single
   * packet is no train: round trips and acknowledgements do not wait.
   */
  readonly rest?: (() => void) | undefined;
}

export interface RunLoopParts {
  readonly waiter: Waiter;
  /** Of the waiter's sources, in their order. */
  readonly steps: readonly PacketStep[];
  /** Takes over what was sent to this thread; false ends the loop. */
  readonly takeMessages: () => boolean;
  /** Done before each wait, when nothing is in hand. */
  readonly betweenBatches?: () => void;
  /** Something that is due at a time: how long until then (-1: nothing is), and what to do. */
  readonly due?: { readonly remainingMs: () => number; readonly run: () => void } | undefined;
}

/** Returns when `takeMessages` says so; throws when the first source is gone. */
export function runLoop(parts: RunLoopParts): void {
  const { waiter, steps, takeMessages, betweenBatches, due } = parts;
  let broken = 0;
  for (;;) {
    betweenBatches?.();
    const remainingMs = due?.remainingMs() ?? -1;
    const ready = waiter.wait(remainingMs);
    if (remainingMs >= 0 && due?.remainingMs() === 0) due.run();
    if ((ready & READY_WAKE) !== 0 && !takeMessages()) return;
    const fromFirst = runBatches(steps, ready, waiter.wasQuiet);
    if (fromFirst > 0 || (ready & READY_BROKEN) === 0) broken = 0;
    else if (++broken === BROKEN_LIMIT)
      throw new FailedError('ERR_DEVICE_GONE', 'the device or socket packets are read from is gone', {
        hint: 'was the device deleted? restart the agent',
      });
  }
}

/** One batch of each source that is ready; what is left waits until the others had theirs. Returns the first's size. */
function runBatches(steps: readonly PacketStep[], ready: number, quiet: boolean): number {
  let fromFirst = 0;
  for (let i = 0; i < steps.length; i++) {
    const bit = READY_SOURCE << i;
    if ((ready & bit) === 0) continue;
    const step = steps[i]!;
    const count = step.run(quiet);
    if (i === 0) fromFirst = count;
    if (step.rest !== undefined && count > 1 && count < step.capacity && ready === bit) step.rest();
  }
  return fromFirst;
}
