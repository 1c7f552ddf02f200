import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Below this much heap (of the thread that asks) there is little to win. */
const WORTH_BYTES = 24 << 20;

/**
 * Collects all garbage now. A listing of 20,000 blocks leaves some 150 MB of it behind, and an agent that has
 * nothing to do allocates so little that V8 would not look at it for hours. It stops the control plane for a
 * tenth of a second; packets have threads and heaps of their own.
 */
export function collectGarbage(): void {
  if (process.memoryUsage().heapTotal < WORTH_BYTES) return;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
}
