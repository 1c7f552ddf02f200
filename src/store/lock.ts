/** The lock port of the file datastore: one writer at a time on one host. `io` implements it by flock(2). */

/** Held until `release`; the kernel releases it when the process dies. */
export interface HeldLock {
  release(): void;
}

export interface FileLock {
  /** Takes the lock if nobody has it, without waiting; the file is created where it is missing. */
  tryAcquire(path: string): HeldLock | undefined;
  /** Who holds it, for messages: `pid 4711 (tortie node run)`; undefined where that cannot be told. */
  holder(path: string): string | undefined;
}
