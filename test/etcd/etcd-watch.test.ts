/**
 * Watches of a real cluster of three through what clusters go through: compaction, the leader killed, every
 * member restarted one after another, frozen members, a partition. Never a missed or doubled change.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import type { Datastore, Listing, WatchEvent } from '../../src/store/datastore.ts';
import { openDatastore } from '../../src/store/open.ts';
import { replay } from '../contract/datastore.contract.ts';
import { WatchRecorder } from '../helpers/datastore-watching.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';

const PREFIX = '/calico/';

/** Long enough for every keepalive, request and election to fail (issue: half a minute). */
/** Ten minutes in scripts/soak, unless it is told otherwise. */
const PARTITION_MS = Number(process.env.TORTIE_TEST_PARTITION_MS ?? 30_000);

let cluster: EtcdCluster;
let store: Datastore;
let recorder: WatchRecorder;
let listing: Listing;
let writer: Writer;

beforeAll(async () => {
  cluster = await EtcdCluster.start({ members: 3 });
});
afterAll(() => cluster?.stop());

beforeEach(async () => {
  store = await openDatastore({ datastore: cluster.url, env: {} });
  listing = await store.list(PREFIX);
  recorder = new WatchRecorder(store, PREFIX, listing.revision);
  writer = new Writer();
});

afterEach(async () => {
  await writer.stop();
  await recorder.stop();
  await store.close();
});

/** Writes by etcdctl: what etcd holds does not depend on our client. */
class Writer {
  #count = 0;
  #running: Promise<void> | undefined;
  #stopped = false;

  /** Puts or deletes one key; while the cluster is away nothing comes of it. */
  async write(key = `${PREFIX}k${this.#count % 7}`): Promise<void> {
    this.#count += 1;
    const words = this.#count % 5 === 4 ? ['del', key] : ['put', key, `${this.#count}`];
    await cluster.etcdctl(...words, '--command-timeout=2s');
  }

  async writeTimes(times: number): Promise<void> {
    for (let i = 0; i < times; i += 1) await this.write();
  }

  start(): void {
    this.#running = (async () => {
      while (!this.#stopped) await this.write();
    })();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }
}

function revisionsOf(events: readonly WatchEvent[]): bigint[] {
  return events.map((event) => {
    if (event.type === 'put') return BigInt(event.entry.revision);
    return BigInt(event.type === 'delete' ? event.revision : event.listing.revision);
  });
}

/** What the watcher knows is what etcd holds, and revisions only grew: with every change once. */
async function expectNothingMissed(): Promise<void> {
  const final = await store.list(PREFIX);
  const expected = JSON.stringify(final.entries.map((entry) => [entry.key, entry.value]));
  await recorder.until((events) => JSON.stringify([...replay(listing, events)].sort()) === expected, 30_000);
  const revisions = [BigInt(listing.revision), ...revisionsOf(recorder.events)];
  expect(revisions.every((revision, i) => i === 0 || revision > revisions[i - 1]!)).toBe(true);
}

/** Without a resync, the watcher must have every revision of the store: nobody else writes here. */
function expectEveryRevision(): void {
  const revisions = revisionsOf(recorder.events);
  expect(recorder.events.filter((event) => event.type === 'resync')).toEqual([]);
  expect(revisions).toEqual(revisions.map((_, i) => BigInt(listing.revision) + BigInt(i) + 1n));
}

test('compaction while watching changes nothing', async () => {
  await writer.writeTimes(6);
  await cluster.compact();
  await writer.writeTimes(6);
  await expectNothingMissed();
  expectEveryRevision();
});

test('a watch from a compacted revision begins with a resync', async () => {
  await writer.writeTimes(6);
  await cluster.compact();
  const late = new WatchRecorder(store, PREFIX, listing.revision);
  await late.until((events) => events.length > 0);
  expect(late.events[0]).toEqual({ type: 'resync', listing: await store.list(PREFIX) });
  const before = late.events.length;
  await writer.write();
  await late.until((events) => events.length > before);
  expect(late.events.at(-1)?.type).not.toBe('resync');
  await late.stop();
});

test('a watch from a revision that the cluster never had begins with a resync', async () => {
  const late = new WatchRecorder(store, PREFIX, '999999999' as Listing['revision']);
  await late.until((events) => events.length > 0);
  expect(late.events[0]).toEqual({ type: 'resync', listing: await store.list(PREFIX) });
  await late.stop();
});

test('the leader killed while others write', async () => {
  writer.start();
  await recorder.until((events) => events.length > 5);
  const leader = await cluster.leader();
  await cluster.killMember(leader);
  const before = recorder.events.length;
  await recorder.until((events) => events.length > before + 5);
  cluster.startMember(leader);
  await writer.stop();
  await cluster.ready();
  await expectNothingMissed();
  expectEveryRevision();
});

test('every member restarted, one after another, while others write', async () => {
  writer.start();
  for (let index = 0; index < cluster.size; index += 1) {
    const before = recorder.events.length;
    await cluster.killMember(index, 'SIGTERM');
    cluster.startMember(index);
    await cluster.allReady();
    await recorder.until((events) => events.length > before + 3);
  }
  await writer.stop();
  // The watch was at one of them.
  expect(recorder.states).toContainEqual(expect.stringMatching(/^disconnected: ./));
  await recorder.untilState((states) => states.at(-1) === 'connected');
  await expectNothingMissed();
  expectEveryRevision();
});

test('all members away and back: changes after that are seen within two seconds', async () => {
  await writer.write();
  await recorder.until((events) => events.length > 0);
  for (let index = 0; index < cluster.size; index += 1) await cluster.killMember(index);
  await poll(systemClock, 10_000, 50, async () => recorder.states.length > 0 || undefined);
  expect(recorder.states[0]).toMatch(/^disconnected: ./);
  for (let index = 0; index < cluster.size; index += 1) cluster.startMember(index);
  await cluster.ready();
  const before = recorder.events.length;
  await writer.write(`${PREFIX}after`);
  await recorder.until((events) => events.length > before, 2_000);
  expect(recorder.states).toEqual([recorder.states[0], 'connected']);
  await expectNothingMissed();
});

test('a frozen member is left for another', { timeout: 120_000 }, async () => {
  await writer.write();
  await recorder.until((events) => events.length > 0);
  // Whichever member the watch is at: freeze each in turn, a majority stays.
  for (let index = 0; index < cluster.size; index += 1) {
    cluster.freezeMember(index);
    const before = recorder.events.length;
    const written = await poll(systemClock, 30_000, 100, async () => {
      const put = await cluster.etcdctl('put', `${PREFIX}frozen`, `${index}`, '--command-timeout=3s');
      return put.status === 0 || undefined;
    });
    expect(written).toBe(true);
    await recorder.until((events) => events.length > before, 30_000);
    cluster.thawMember(index);
    await cluster.allReady();
  }
  await expectNothingMissed();
});

test('a partition, and a compaction meanwhile', { timeout: PARTITION_MS + 120_000 }, async () => {
  await writer.write();
  await recorder.until((events) => events.length > 0);
  const start = systemClock.monotonicMs();
  for (let index = 0; index < cluster.size; index += 1) cluster.cut(index);
  await writer.writeTimes(20);
  await cluster.compact();
  await writer.write();
  await poll(systemClock, PARTITION_MS + 1_000, 250, async () => {
    return systemClock.monotonicMs() - start > PARTITION_MS || undefined;
  });
  expect(recorder.states.some((state) => state.startsWith('disconnected'))).toBe(true);
  for (let index = 0; index < cluster.size; index += 1) cluster.heal(index);
  await expectNothingMissed();
  await recorder.untilState((states) => states.at(-1) === 'connected');
  const before = recorder.events.length;
  await writer.write(`${PREFIX}after`);
  await recorder.until((events) => events.length > before, 5_000);
  await expectNothingMissed();
});
