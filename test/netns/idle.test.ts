/**
 * An idle agent sleeps: its packet threads are not woken at all, its main thread a few times a second. In scripts/soak
 * (TORTIE_TEST_IDLE_SECONDS) also the processor time of a node, with the programs that it runs: less than 0.5 % of a core.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { eventually, type NodeName, SmallCloud } from '../helpers/small-cloud.ts';

const SECONDS = Number(process.env.TORTIE_TEST_IDLE_SECONDS ?? 2);
const LONG = SECONDS >= 20;
/** The least of several windows counts: what has just started has things to finish, and others use the machine. */
const WINDOWS = LONG ? 4 : 5;
/** The datastore's guard, the wait for the kernel's messages, and the garbage collector. */
const MAIN_WAKE_UPS_PER_SECOND = 8;
const CORE_SHARE = 0.005;
/** USER_HZ, of /proc/PID/stat. */
const TICKS_PER_SECOND = 100;

const WAYS: Readonly<Record<NodeName, readonly string[]>> = {
  node1: [],
  node2: ['--sender', 'auto'],
  node3: ['--fast-path', 'ebpf'],
};
const cloud = new SmallCloud();
const pid: Partial<Record<NodeName, number>> = {};

beforeAll(async () => {
  cloud.up();
  await cloud.seed('Always');
  for (const [name, words] of Object.entries(WAYS) as [NodeName, string[]][])
    pid[name] = cloud.startAgent(name, ...words).process.pid!;
  for (const name of Object.keys(WAYS) as NodeName[])
    await eventually(`${name} runs`, async () =>
      (await cloud.status(name))?.state === 'running' ? true : undefined,
    );
});
afterAll(() => cloud.down());

interface Look {
  /** How often each thread went to sleep by itself, by the thread's name; that of the process is its main thread's. */
  readonly sleeps: ReadonlyMap<string, number>;
  /** Of all threads, and of the programs that have ended. */
  readonly ticks: number;
}

function look(process: number): Look {
  const sleeps = new Map<string, number>();
  for (const task of readdirSync(`/proc/${process}/task`)) {
    const status = readFileSync(`/proc/${process}/task/${task}/status`, 'utf8');
    const name = Number(task) === process ? 'main' : /^Name:\s+(.*)$/m.exec(status)![1]!;
    const count = Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)![1]);
    sleeps.set(name, (sleeps.get(name) ?? 0) + count);
  }
  const fields = readFileSync(`/proc/${process}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  // utime, stime, cutime and cstime are fields 14 to 17; the first two were cut off.
  return { sleeps, ticks: fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) };
}

test.each(Object.keys(WAYS) as (keyof typeof WAYS)[])('%s sleeps', async (name) => {
  const windows: { packetThreads: number; main: number; share: number }[] = [];
  const asleep = () =>
    windows.find(
      ({ packetThreads, main, share }) =>
        packetThreads === 0 && main <= MAIN_WAKE_UPS_PER_SECOND && (!LONG || share < CORE_SHARE),
    );
  while (windows.length < WINDOWS && !asleep()) {
    const before = look(pid[name]!);
    expect([...before.sleeps.keys()]).toEqual(expect.arrayContaining(['main', 'packets', 'inbound']));
    await systemClock.sleep(SECONDS * 1000); // sleeps: what happens while nothing happens is counted
    const after = look(pid[name]!);
    const grown = (thread: string) => after.sleeps.get(thread)! - before.sleeps.get(thread)!;
    windows.push({
      packetThreads: grown('packets') + grown('inbound'),
      main: grown('main') / SECONDS,
      share: (after.ticks - before.ticks) / TICKS_PER_SECOND / SECONDS,
    });
  }
  expect(asleep(), JSON.stringify(windows)).toBeDefined();
  if (LONG) console.log(name, JSON.stringify(windows));
});
