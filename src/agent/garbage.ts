import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Below this much heap (of the thread that asks) there is little to win. */
const WORTH_BYTES = 24 << 20;

/**
 * Collects all garbage now and moves what is left together. A listing of 20,000 blocks leaves some 100 MB of it
 * behind, and an agent that has nothing to do allocates so little that V8 would not look at it for hours. It stops
 * the control plane for a tenth of a second; packets have threads and heaps of their own.
 *
 * V8 gives the young generation's 32 MB back only where little was allocated in the second before: whoever has just
 * been busy asks again when that is over.
 */
export function collectGarbage(): void {
  if (process.memoryUsage().heapTotal < WORTH_BYTES) return;
  setFlagsFromString('--expose-gc');
  // Without it, pages that hold a few objects each stay: a third of the heap.
  setFlagsFromString('--compact-on-every-full-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  setFlagsFromString('--no-compact-on-every-full-gc');
  setFlagsFromString('--no-expose-gc');
}
