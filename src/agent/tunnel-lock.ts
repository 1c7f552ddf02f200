/** One process for each device: a lock in the run directory, which the kernel releases when the process dies. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UnavailableError } from '../base/errors.ts';
import { flockLock } from '../io/file-lock.ts';

/** @throws UnavailableError that names who serves the device */
export function takeTunnelLock(runDirectory: string, device: string): { release(): void } {
  const path = join(runDirectory, `tunnel-${device}.lock`);
  const lock = flockLock.tryAcquire(path);
  if (lock) return lock;
  const holder = flockLock.holder(path) ?? 'another process';
  throw new UnavailableError('ERR_TUNNEL_RUNNING', `${device} is already served on this host: ${holder}`, {
    hint: 'stop that one first, or run this one with another --device',
  });
}

/** What is taken away under a process that serves the device would be put back by it. @throws UnavailableError */
export function requireUnserved(runDirectory: string, device: string): void {
  // Where nobody ever ran, nothing is to be left behind.
  if (existsSync(join(runDirectory, `tunnel-${device}.lock`))) takeTunnelLock(runDirectory, device).release();
}
