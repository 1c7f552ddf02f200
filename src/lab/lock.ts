/** One `up` or `down` of a lab at a time; the kernel drops the lock with the process that held it. */
import { mkdirSync, rmSync } from 'node:fs';
import { poll } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { flockLock } from '../io/file-lock.ts';
import type { LabContext } from './lab.ts';
import { labPaths } from './names.ts';

/** As long as an `up` of a large lab on a slow machine may take. */
const DEADLINE_MS = 120_000;

export function withLabLock<T>(context: LabContext, lab: string, work: () => Promise<T>): Promise<T> {
  return withLock(labPaths(context.labsDirectory, lab).lock, `the lab ${lab}`, context, work);
}

/** `what` is what the lock protects, for messages. */
export async function withLock<T>(
  path: string,
  what: string,
  { labsDirectory, clock, progress }: LabContext,
  work: () => Promise<T>,
): Promise<T> {
  let told = false;
  const held = await poll(clock, DEADLINE_MS, 50, async () => {
    mkdirSync(labsDirectory, { recursive: true });
    const lock = flockLock.tryAcquire(path);
    if (!lock && !told)
      progress(`waiting for ${flockLock.holder(path) ?? 'another process'} to be done with ${what}`);
    told ||= !lock;
    return lock;
  });
  if (!held)
    throw new FailedError('ERR_LAB_LOCKED', `${what} is being changed by ${flockLock.holder(path)}`, {
      hint: 'wait for it, or end that process',
    });
  try {
    return await work();
  } finally {
    // Removed while it is held: whoever opened it meanwhile sees that the path is another file, and opens again.
    rmSync(path, { force: true });
    held.release();
  }
}
