/**
 * One direction's life on its own thread: wait, run batches to completion, take over changes between batches.
 * Nothing else runs on the thread, and an idle direction waits in one system call.
 */
import { FailedError } from '../base/errors.ts';
import { READY_BROKEN, READY_SECOND, READY_SOURCE, READY_WAKE, type Waiter } from './ports.ts';

/** Batches in a row before the loop looks for changes again: bounds how long a change waits under load. */
const BATCHES_PER_TURN = 16;
/** A source that says "ready" this often in a row and gives nothing is gone. */
const BROKEN_LIMIT = 8;

export interface RunLoopParts {
  readonly waiter: Waiter;
  /** Runs one batch and returns its size. */
  readonly step: () => number;
  /** Runs one batch of the second source, where there is one, and returns its size. */
  readonly second?: () => number;
  /** Takes over what was sent to this thread; false ends the loop. */
  readonly takeMessages: () => boolean;
  /** Something that is due at a time: how long until then (-1: nothing is), and what to do. */
  readonly due?: { readonly remainingMs: () => number; readonly run: () => void };
}

/** Returns when `takeMessages` says so; throws when the source is gone. */
export function runLoop(parts: RunLoopParts): void {
  const { waiter, step, second, takeMessages, due } = parts;
  let broken = 0;
  for (;;) {
    const ready = waiter.wait(due?.remainingMs());
    if (due?.remainingMs() === 0) due.run();
    if ((ready & READY_WAKE) !== 0 && !takeMessages()) return;
    if ((ready & READY_SECOND) !== 0 && second !== undefined) runBatches(second);
    if ((ready & READY_SOURCE) === 0) continue;
    const batches = runBatches(step);
    if (batches > 0 || (ready & READY_BROKEN) === 0) broken = 0;
    else if (++broken === BROKEN_LIMIT)
      throw new FailedError('ERR_DEVICE_GONE', 'the device or socket packets are read from is gone', {
        hint: 'was the device deleted? restart the agent',
      });
  }
}

function runBatches(step: () => number): number {
  let batches = 0;
  while (batches < BATCHES_PER_TURN && step() > 0) batches++;
  return batches;
}
