/** Waiting for the file datastore's lock. */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { DatastoreUnavailableError } from './datastore.ts';
import { OWN_DIRECTORY } from './file-keys.ts';
import { makeDirectory } from './file-values.ts';
import type { FileLock } from './lock.ts';

/** flock cannot wait with a deadline, so it is tried again; a change takes its holder a few milliseconds. */
const RETRY_MS = { least: 1, spread: 8 };

/** Runs `work`, which must be synchronous, while holding the lock. */
export async function withLock<T>(
  root: string,
  ports: { readonly lock: () => Promise<FileLock>; readonly clock: Clock; readonly random: Random },
  timeoutMs: number,
  work: () => T,
): Promise<T> {
  const lock = await ports.lock();
  const path = join(root, OWN_DIRECTORY, 'lock');
  makeDirectory(join(root, OWN_DIRECTORY));
  const deadline = ports.clock.monotonicMs() + timeoutMs;
  for (;;) {
    const held = lock.tryAcquire(path);
    if (held) {
      try {
        return work();
      } finally {
        held.release();
      }
    }
    if (ports.clock.monotonicMs() >= deadline) throw lockTimeout(root, path, timeoutMs, lock);
    await ports.clock.sleep(RETRY_MS.least + ports.random.below(RETRY_MS.spread));
  }
}

function lockTimeout(root: string, path: string, timeoutMs: number, lock: FileLock): Error {
  const holder = lock.holder(path) ?? 'a process that cannot be seen from here';
  return new DatastoreUnavailableError(
    `the datastore file://${root} is locked: ${holder} has held ${path} for ${timeoutMs / 1000} s`,
    true,
    { hint: 'Wait for that process, or stop it: the lock goes with it.' },
  );
}
