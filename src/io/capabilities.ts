/**
 * Capabilities (capabilities(7)): which ones this process has, and giving up all but a few.
 *
 * They are per thread, and a running Node has a handful of threads by the time that JavaScript runs. So we take
 * the others out of the calling thread's bounding set and replace the process in place: execve ends the other
 * threads, keeps the pid, and computes the new sets from the bounding set, for root too.
 */
import { readFileSync } from 'node:fs';
import { systemCallFailed } from './errno.ts';
import { libc, systemCalls } from './libc.ts';

/** Numbers of <linux/capability.h>. */
export const CAPABILITY = { NET_ADMIN: 12, NET_RAW: 13, SETPCAP: 8, BPF: 39 } as const;

const PR_CAPBSET_DROP = 24;
const F_SETFD = 2;

/** A set as /proc shows it, `CapPrm`, `CapEff` or `CapBnd`: bit n for capability n. */
export function capabilitySet(name: 'CapPrm' | 'CapEff' | 'CapBnd'): bigint {
  const match = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(
    readFileSync('/proc/thread-self/status', 'utf8'),
  );
  return BigInt(`0x${match?.[1] ?? '0'}`);
}

export function hasCapability(number: number): boolean {
  return (capabilitySet('CapEff') & (1n << BigInt(number))) !== 0n;
}

/**
 * Replaces this process by itself without the capabilities that are not in `keep`; returns where there is nothing
 * to give up, or where we may not (no CAP_SETPCAP). Call it before anything is opened or started.
 */
export function keepOnlyCapabilities(keep: readonly number[]): void {
  const kept = keep.reduce((set, number) => set | (1n << BigInt(number)), 0n);
  const excess = capabilitySet('CapPrm') & ~kept;
  if (excess === 0n || !hasCapability(CAPABILITY.SETPCAP)) return;
  dropFromBoundingSet(kept);
  replaceProcess();
}

function dropFromBoundingSet(kept: bigint): void {
  const { library } = libc();
  const prctl = library.func(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  );
  const bounding = capabilitySet('CapBnd');
  for (let number = 0; number < 64; number++) {
    const bit = 1n << BigInt(number);
    if (!(bounding & bit) || kept & bit) continue;
    if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0)
      throw systemCallFailed(`dropping capability ${number} from the bounding set`);
  }
}

function replaceProcess(): void {
  const { library } = libc();
  // Node marks its standard descriptors close-on-exec; the one that takes our place needs them.
  for (const fd of [0, 1, 2]) systemCalls().fcntl(fd, F_SETFD, 0);
  const execvp = library.func('int execvp(const char *file, const char **argv)');
  const words = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  execvp(process.execPath, [...words, null]);
  throw systemCallFailed('replacing this process by itself');
}
