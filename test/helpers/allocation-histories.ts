/** Processes that allocate at the same time, and what their histories may not show. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const CHILD = join(import.meta.dirname, 'allocator-child.mjs');

export interface Holding {
  readonly address: string;
  readonly handle: string;
  readonly from: string;
  readonly to: string | null;
}

/** One process of `node` that takes `times` addresses and gives back every third. */
export async function allocateInProcess(
  datastore: string,
  node: string,
  handle: string,
  times: number,
  timeoutMs: number,
): Promise<Holding[]> {
  if (!existsSync(join(import.meta.dirname, '../../dist/control/address-allocator.js')))
    throw new Error('this test uses the built output: npm run build');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [CHILD, datastore, node, handle, String(times)],
    { timeout: timeoutMs, maxBuffer: 64 << 20 },
  );
  return JSON.parse(stdout) as Holding[];
}

export function stillHeld(histories: readonly Holding[]): string[] {
  return histories.flatMap(({ address, to }) => (to === null ? [address] : [])).sort();
}

/** Every two holdings of one address whose times overlap. */
export function heldTwice(histories: readonly Holding[]): string[] {
  const until = ({ to }: Holding) => (to === null ? undefined : BigInt(to));
  const byAddress = new Map<string, Holding[]>();
  for (const one of histories) byAddress.set(one.address, [...(byAddress.get(one.address) ?? []), one]);
  return [...byAddress.values()].flatMap((holdings) => {
    const sorted = holdings.sort((a, b) => (BigInt(a.from) < BigInt(b.from) ? -1 : 1));
    return sorted.slice(1).flatMap((one, index) => {
      const before = sorted[index]!;
      const end = until(before);
      return end !== undefined && end <= BigInt(one.from)
        ? []
        : [`${one.address}: ${before.handle} and ${one.handle}`];
    });
  });
}
