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

/** What runs one batch of a source. */
export interface PacketStep {
  /** Runs one batch and returns its size. */
  readonly run: () => number;
  /** The size of a full batch; a smaller one left the source empty, which so need not be asked once more. */
  readonly capacity: number;
  /**
   * A short pause, after a turn that brought several packets but no full batch: more of the same train are on
   * their way one by one, and to take many at once is cheaper than each as it comes. A single packet is no train:
   * round trips and acknowledgements do not wait.
   */
  readonly rest?: (() => void) | undefined;
}

export interface RunLoopParts {
  readonly waiter: Waiter;
  readonly source: PacketStep;
  /** The second source, where there is one. */
  readonly second?: PacketStep;
  /** Takes over what was sent to this thread; false ends the loop. */
  readonly takeMessages: () => boolean;
  /** Something that is due at a time: how long until then (-1: nothing is), and what to do. */
  readonly due?: { readonly remainingMs: () => number; readonly run: () => void };
}

/** Returns when `takeMessages` says so; throws when the source is gone. */
export function runLoop(parts: RunLoopParts): void {
  const { waiter, source, second, takeMessages, due } = parts;
  let broken = 0;
  for (;;) {
    const ready = waiter.wait(due?.remainingMs());
    if (due?.remainingMs() === 0) due.run();
    if ((ready & READY_WAKE) !== 0 && !takeMessages()) return;
    if ((ready & READY_SECOND) !== 0 && second !== undefined) runBatches(second);
    if ((ready & READY_SOURCE) === 0) continue;
    const packets = runBatches(source);
    if (packets > 1 && packets < source.capacity) source.rest?.();
    if (packets > 0 || (ready & READY_BROKEN) === 0) broken = 0;
    else if (++broken === BROKEN_LIMIT)
      throw new FailedError('ERR_DEVICE_GONE', 'the device or socket packets are read from is gone', {
        hint: 'was the device deleted? restart the agent',
      });
  }
}

function runBatches(step: PacketStep): number {
  let packets = 0;
  for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
    const count = step.run();
    packets += count;
    if (count < step.capacity) break;
  }
  return packets;
}
