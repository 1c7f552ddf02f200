/**
 * flock(2) for the file datastore's writers. The kernel drops the lock with the last descriptor of its
 * process, so a killed writer never leaves it held. Node has no flock of its own, hence koffi; readers take
 * no lock and never load this file.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import type { FileLock, HeldLock } from '../store/lock.ts';
import { libc } from './libc.ts';

/** <asm-generic/fcntl.h>, <bits/errno.h> */
const LOCK_EX = 2;
const LOCK_NB = 4;
const EINTR = 4;
const EAGAIN = 11;

/** Long command lines are cut in messages. */
const COMMAND_CHARACTERS = 120;

let flockCall: ((fd: number, operation: number) => number) | undefined;

/** True where the lock is ours now, false where somebody else has it. */
function flock(fd: number): boolean {
  const { koffi, library } = libc();
  flockCall ??= library.func('int flock(int fd, int operation)');
  for (;;) {
    if (flockCall(fd, LOCK_EX | LOCK_NB) === 0) return true;
    const errno = koffi.errno();
    if (errno === EAGAIN) return false;
    if (errno !== EINTR) throw new Error(`flock failed: errno ${errno}`);
  }
}

export const flockLock: FileLock = {
  tryAcquire(path) {
    for (;;) {
      const fd = openSync(path, 'a+');
      let locked = false;
      try {
        if (!flock(fd)) return undefined;
        // Somebody may have removed the file (and with it our lock) between open and flock.
        locked = fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino;
        if (locked) return held(fd);
      } finally {
        if (!locked) closeSync(fd);
      }
    }
  },
  holder: (path) => holderByKernel(path) ?? holderByLine(path),
};

function held(fd: number): HeldLock {
  // For a waiter that cannot see our process (another pid namespace): who we are, in the file itself.
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid} ${commandOf(process.argv)}\n`);
  return { release: () => closeSync(fd) };
}

function commandOf(words: readonly string[]): string {
  return words.join(' ').trim().slice(0, COMMAND_CHARACTERS);
}

/** /proc/locks: `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`, the inode number last in the third group. */
function holderByKernel(path: string): string | undefined {
  try {
    const inode = statSync(path).ino;
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const match = /^\d+: FLOCK\s+\S+\s+WRITE (\d+) \w+:\w+:(\d+) /.exec(line);
      if (match?.[2] !== String(inode)) continue;
      const words = readFileSync(`/proc/${match[1]}/cmdline`, 'utf8').split('\0');
      return `pid ${match[1]} (${commandOf(words)})`;
    }
  } catch {
    // The holder is gone already, or /proc is not there: the line in the file is the next best.
  }
  return undefined;
}

function holderByLine(path: string): string | undefined {
  try {
    const match = /^(\d+) (.*)\n$/.exec(readFileSync(path, 'utf8'));
    return match ? `pid ${match[1]} (${match[2]})` : undefined;
  } catch {
    return undefined;
  }
}
