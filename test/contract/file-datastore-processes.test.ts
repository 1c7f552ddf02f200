/** The file datastore among processes: compare-and-swap, kill -9, the lock, watchers of many writers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { seededRandom, systemRandom } from '../../src/base/random.ts';
import { flockLock } from '../../src/io/file-lock.ts';
import type { Datastore, Revision } from '../../src/store/datastore.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { openFileStore } from '../../src/store/open.ts';
import { WatchRecorder } from '../helpers/datastore-watching.ts';
import { replay } from './datastore.contract.ts';

const CHILD = join(import.meta.dirname, '../helpers/file-store-child.mjs');
const KEY = '/calico/count';
const DEADLINE_MS = 120_000;

let directory: string;
let store: Datastore;
const children: ChildProcess[] = [];

beforeEach(() => {
  if (!existsSync(join(import.meta.dirname, '../../dist/store/open.js')))
    throw new Error('these tests start processes that need the built output: npm run build');
  directory = mkdtempSync(join(tmpdir(), 'tortie-store-'));
  store = openFileStore(directory);
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

interface Child {
  readonly process: ChildProcess;
  output: string;
  /** Resolves with the exit code, or with the signal's name. */
  readonly ended: Promise<number | string>;
}

function start(...words: readonly string[]): Child {
  const process_ = spawn(process.execPath, [CHILD, words[0]!, directory, ...words.slice(1)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(process_);
  const child: Child = {
    process: process_,
    output: '',
    ended: new Promise((resolve) => process_.once('close', (code, signal) => resolve(code ?? signal ?? -1))),
  };
  process_.stdout?.on('data', (data) => {
    child.output += data;
  });
  return child;
}

async function hear(child: Child, enough: (output: string) => boolean): Promise<void> {
  const heard = await poll(systemClock, DEADLINE_MS, 1, async () => enough(child.output) || undefined);
  if (!heard) throw new Error(`the child said only ${JSON.stringify(child.output)}`);
}

test('16 processes counting on one key lose no update', { timeout: DEADLINE_MS }, async () => {
  const counting = Array.from({ length: 16 }, () => start('count', KEY, '30'));
  expect(await Promise.all(counting.map((child) => child.ended))).toEqual(Array(16).fill(0));
  expect((await store.get(KEY))?.value).toBe('480');
  expect((await store.list('/calico/')).revision).toBe('480');
});

test(
  'watchers of four writing processes see every change in order, once',
  { timeout: DEADLINE_MS },
  async () => {
    const recorders = [1, 2].map(() => new WatchRecorder(openFileStore(directory), '/', '0' as Revision));
    const writing = [1, 2, 3, 4].map((i) => start('scribble', `/calico/scribble/${i}`, '40'));
    expect(await Promise.all(writing.map((child) => child.ended))).toEqual([0, 0, 0, 0]);
    const final = await store.list('/');
    const count = Number(final.revision);
    expect(count).toBe(160);
    for (const recorder of recorders) {
      await recorder.until((events) => events.length >= count);
      await recorder.stop();
      const revisions = recorder.events.map((event) =>
        event.type === 'put' ? event.entry.revision : event.type === 'delete' ? event.revision : 'resync',
      );
      expect(revisions).toEqual(Array.from({ length: count }, (_, i) => String(i + 1)));
      const state = replay({ entries: [], revision: '0' as Revision }, recorder.events);
      expect([...state].sort()).toEqual(final.entries.map((entry) => [entry.key, entry.value]).sort());
    }
  },
);

test(
  'kill -9 at any point leaves no torn value and loses nothing acknowledged',
  { timeout: DEADLINE_MS },
  async () => {
    const random = seededRandom(20_240_611);
    const recorder = new WatchRecorder(store, '/', '0' as Revision);
    const reading = new AbortController();
    const read = readConstantly(reading.signal);
    const kills = 12;
    let acknowledged = 0;
    for (let i = 0; i < kills; i += 1) {
      const [victim, other] = [start('endless', KEY), start('endless', KEY)];
      // Anywhere within a change: some successes, and then at a moment of the victim's own.
      const successes = 1 + random.below(6);
      await hear(victim, (output) => output.length >= successes);
      await systemClock.sleep(random.below(8)); // sleeps: the moment of the kill is the point
      for (const child of [victim, other]) child.process.kill('SIGKILL');
      await Promise.all([victim.ended, other.ended]);
      acknowledged += victim.output.length + other.output.length;
      const counted = Number((await store.get(KEY))?.value);
      expect(counted).toBeGreaterThanOrEqual(acknowledged);
      expect(counted).toBeLessThanOrEqual(acknowledged + 2);
      acknowledged = counted;
    }
    reading.abort();
    expect(await read).toBeGreaterThan(20);
    const after = await store.create('/calico/after', '{}');
    expect((await store.list('/')).revision).toBe(after.revision);
    await recorder.until((events) => {
      const last = events.at(-1);
      return last?.type === 'put' && last.entry.key === '/calico/after';
    });
    await recorder.stop();
    const state = replay({ entries: [], revision: '0' as Revision }, recorder.events);
    const final = await store.list('/');
    expect([...state].sort()).toEqual(final.entries.map((entry) => [entry.key, entry.value]).sort());
  },
);

/** Reads everything again and again; every value must be whole JSON. Gives how often. */
async function readConstantly(signal: AbortSignal): Promise<number> {
  let times = 0;
  while (!signal.aborted) {
    for (const entry of (await store.list('/')).entries) JSON.parse(entry.value);
    times += 1;
    await new Promise(setImmediate);
  }
  return times;
}

test('a writer that waits too long names the holder; the lock goes with its process', async () => {
  await store.create(KEY, '1');
  const holder = start('hold');
  await hear(holder, (output) => output === 'held\n');
  const impatient = new FileStore({
    directory,
    lock: async () => flockLock,
    clock: systemClock,
    random: systemRandom,
    lockTimeoutMs: 100,
  });
  await expect(impatient.create('/calico/x', '1')).rejects.toMatchObject({
    code: 'ERR_STORE_UNAVAILABLE',
    retryable: true,
    message: expect.stringMatching(
      new RegExp(
        `locked: pid ${holder.process.pid} \\(.*file-store-child.*\\) has held .*/\\.tortie/lock for 0\\.1 s`,
      ),
    ),
  });
  // Readers do not care.
  expect((await store.get(KEY))?.value).toBe('1');
  expect((await store.list('/')).entries).toHaveLength(1);
  const waiting = store.create('/calico/x', '1');
  holder.process.kill('SIGKILL');
  await waiting;
});
