/** Processes that allocate at the same time, and what their histories may not show. */
import { type ChildProcess, execFile } from 'node:child_process';
import { once } from 'node:events';
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

export interface AllocatingProcess {
  readonly node: string;
  readonly handle: string;
  /** How many addresses it takes; every third time it gives one back. */
  readonly times: number;
}

/** Processes that start a few at a time, begin together, and tell what each held and when. */
export async function allocateInProcesses(
  datastore: string,
  processes: readonly AllocatingProcess[],
  timeoutMs: number,
): Promise<Holding[][]> {
  if (!existsSync(join(import.meta.dirname, '../../dist/control/address-allocator.js')))
    throw new Error('this test uses the built output: npm run build');
  const started: Started[] = [];
  try {
    for (let i = 0; i < processes.length; i += STARTS_AT_ONCE) {
      const group = processes.slice(i, i + STARTS_AT_ONCE).map((one) => start(datastore, one, timeoutMs));
      started.push(...group);
      await Promise.all(group.map(({ ready }) => ready));
    }
    for (const { child } of started) child.stdin?.end();
    return await Promise.all(started.map(({ history }) => history));
  } finally {
    for (const { child } of started) child.kill('SIGKILL');
    await Promise.allSettled(started.map(({ history }) => history));
  }
}

const STARTS_AT_ONCE = 4;
const READY = 'ready\n';

interface Started {
  readonly child: ChildProcess;
  readonly ready: Promise<unknown>;
  readonly history: Promise<Holding[]>;
}

function start(datastore: string, { node, handle, times }: AllocatingProcess, timeoutMs: number): Started {
  const promise = promisify(execFile)(process.execPath, [CHILD, datastore, node, handle, String(times)], {
    timeout: timeoutMs,
    maxBuffer: 64 << 20,
  });
  const { child } = promise;
  const history = promise.then(({ stdout }) => JSON.parse(stdout.slice(READY.length)) as Holding[]);
  const ready = Promise.race([once(child.stdout!, 'data'), history]);
  return { child, ready, history };
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
