/** The clock that eBPF programs see. */
import { readFileSync } from 'node:fs';

/** What a time namespace adds to the kernel's monotonic clock for its processes. */
let offsetNs: bigint | undefined;

/** CLOCK_MONOTONIC in nanoseconds as the kernel itself has it, outside of all time namespaces. */
export function kernelMonotonicNs(): bigint {
  offsetNs ??= monotonicOffsetNs();
  return process.hrtime.bigint() - offsetNs;
}

function monotonicOffsetNs(): bigint {
  try {
    const [, seconds, ns] = /^monotonic\s+(-?\d+)\s+(\d+)/m.exec(
      readFileSync('/proc/self/timens_offsets', 'utf8'),
    ) ?? ['', '0', '0'];
    return BigInt(seconds!) * 1_000_000_000n + BigInt(ns!);
  } catch {
    // A kernel without time namespaces.
    return 0n;
  }
}
