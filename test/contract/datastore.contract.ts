/** What every driver of the Datastore port must do; each driver's test calls `datastoreContract`. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Datastore, Entry, Listing, Revision, WatchEvent } from '../../src/store/datastore.ts';
import { retryOnConflict, WatchRecorder } from '../helpers/datastore-watching.ts';

export interface DatastoreFixture {
  /** Another client of the same, at first empty, datastore. */
  open(): Promise<Datastore>;
  dispose(): Promise<void>;
}

const A = '/calico/test/a/one';
const B = '/calico/test/a/two';
const PREFIX = '/calico/test/a/';

/** Rebuilds what a watcher knows from a listing and the events after it. */
export function replay(listing: Listing, events: readonly WatchEvent[]): Map<string, string> {
  let state = new Map(listing.entries.map((entry) => [entry.key, entry.value]));
  for (const event of events) {
    if (event.type === 'put') state.set(event.entry.key, event.entry.value);
    else if (event.type === 'delete') state.delete(event.key);
    else state = new Map(event.listing.entries.map((entry) => [entry.key, entry.value]));
  }
  return state;
}

function revisionOf(event: WatchEvent): bigint {
  if (event.type === 'put') return BigInt(event.entry.revision);
  return BigInt(event.type === 'delete' ? event.revision : event.listing.revision);
}

export function datastoreContract(name: string, make: () => Promise<DatastoreFixture>): void {
  describe(`${name}: the datastore contract`, () => {
    let fixture: DatastoreFixture;
    let store: Datastore;
    const opened: Datastore[] = [];
    const watching: WatchRecorder[] = [];

    async function openAnother(): Promise<Datastore> {
      const another = await fixture.open();
      opened.push(another);
      return another;
    }

    function watch(from: Revision, prefix = PREFIX, client = store): WatchRecorder {
      const recorder = new WatchRecorder(client, prefix, from);
      watching.push(recorder);
      return recorder;
    }

    beforeEach(async () => {
      fixture = await make();
      store = await openAnother();
    });

    afterEach(async () => {
      await Promise.all(watching.splice(0).map((recorder) => recorder.stop()));
      await Promise.all(opened.splice(0).map((client) => client.close()));
      await fixture.dispose();
    });

    describe('one key', () => {
      test('an empty store has nothing', async () => {
        expect(await store.get(A)).toBeUndefined();
        const listing = await store.list(PREFIX);
        expect(listing.entries).toEqual([]);
        expect(listing.revision).toMatch(/^\d+$/);
      });

      test('create, get, update, delete', async () => {
        const created = await store.create(A, '{"n":1}');
        expect(created).toEqual({ key: A, value: '{"n":1}', revision: expect.stringMatching(/^[1-9]\d*$/) });
        expect(await store.get(A)).toEqual(created);
        const updated = await store.update(A, '{"n":2}', created.revision);
        expect(BigInt(updated.revision)).toBeGreaterThan(BigInt(created.revision));
        expect(await store.get(A)).toEqual(updated);
        expect(await store.delete(A, updated.revision)).toEqual(updated);
        expect(await store.get(A)).toBeUndefined();
      });

      test('create refuses what is there, and says what is', async () => {
        const existing = await store.create(A, 'first');
        const refused = store.create(A, 'second');
        await expect(refused).rejects.toMatchObject({ code: 'ERR_STORE_EXISTS', existing });
        expect(await store.get(A)).toEqual(existing);
      });

      test('update refuses another revision, and says what is there', async () => {
        const first = await store.create(A, 'first');
        const second = await store.update(A, 'second', first.revision);
        const refused = store.update(A, 'third', first.revision);
        await expect(refused).rejects.toMatchObject({ code: 'ERR_STORE_CONFLICT', existing: second });
        expect(await store.get(A)).toEqual(second);
      });

      test('update and delete refuse what is not there', async () => {
        const gone = await store.create(A, 'x');
        await store.delete(A);
        await expect(store.update(A, 'y', gone.revision)).rejects.toMatchObject({
          code: 'ERR_STORE_NOT_FOUND',
        });
        await expect(store.delete(A)).rejects.toMatchObject({ code: 'ERR_STORE_NOT_FOUND' });
        await expect(store.delete(A, gone.revision)).rejects.toMatchObject({ code: 'ERR_STORE_NOT_FOUND' });
      });

      test('delete refuses another revision; without one it takes any', async () => {
        const first = await store.create(A, 'first');
        const second = await store.update(A, 'second', first.revision);
        const refused = store.delete(A, first.revision);
        await expect(refused).rejects.toMatchObject({ code: 'ERR_STORE_CONFLICT', existing: second });
        expect(await store.delete(A)).toEqual(second);
      });

      test('a key made anew has a new revision: the old one is of no use', async () => {
        const first = await store.create(A, 'same');
        await store.delete(A);
        const second = await store.create(A, 'same');
        expect(BigInt(second.revision)).toBeGreaterThan(BigInt(first.revision));
        await expect(store.update(A, 'x', first.revision)).rejects.toMatchObject({
          code: 'ERR_STORE_CONFLICT',
        });
      });

      test('the same value again is a change like any other', async () => {
        const first = await store.create(A, 'same');
        const second = await store.update(A, 'same', first.revision);
        expect(BigInt(second.revision)).toBeGreaterThan(BigInt(first.revision));
        expect(await store.get(A)).toEqual(second);
      });

      test.each([
        ['a sequence number beyond 2^53', '{"sequenceNumber":1735700000000000001}'],
        ['text beyond ASCII', '{"name":"Schildpatt 🐈"}'],
        ['a newline at the end', '{"n":1}\n'],
        ['nothing', ''],
        ['300 KB', JSON.stringify({ text: 'x'.repeat(300_000) })],
      ])('keeps every byte: %s', async (_what, value) => {
        await store.create(A, value);
        const other = await openAnother();
        expect((await other.get(A))?.value).toBe(value);
        expect((await other.list(PREFIX)).entries.map((entry) => entry.value)).toEqual([value]);
      });
    });

    describe('list', () => {
      test('gives what is below the prefix, sorted by key, and nothing beside it', async () => {
        const keys = ['/calico/test/a/b/c', '/calico/test/a/b-1', '/calico/test/a/b/a', '/calico/test/a/a'];
        for (const key of [...keys, '/calico/test/ab/x', '/calico/tes', '/calico/other/a'])
          await store.create(key, key);
        const listing = await store.list(PREFIX);
        expect(listing.entries.map((entry) => entry.key)).toEqual([...keys].sort());
        expect(listing.entries.every((entry) => entry.value === entry.key)).toBe(true);
        for (const entry of listing.entries) expect(await store.get(entry.key)).toEqual(entry);
        const scanned: Entry[] = [];
        const revision = await store.scan(PREFIX, {
          begin: () => scanned.splice(0),
          page: (entries) => scanned.push(...entries),
        });
        expect({ entries: scanned, revision }).toEqual(listing);
      });

      test('its revision is the store’s: no entry is younger', async () => {
        const a = await store.create(A, '1');
        const b = await store.create(B, '1');
        const outside = await store.create('/calico/test/z', '1');
        const listing = await store.list(PREFIX);
        expect(listing.entries.map((entry) => entry.revision)).toEqual([a.revision, b.revision]);
        expect(BigInt(listing.revision)).toBeGreaterThanOrEqual(BigInt(outside.revision));
      });
    });

    describe('compare-and-swap', () => {
      test('of ten who create a key one succeeds', async () => {
        const clients = await Promise.all(Array.from({ length: 10 }, openAnother));
        const results = await Promise.allSettled(clients.map((client, i) => client.create(A, String(i))));
        const winners = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
        expect(winners).toHaveLength(1);
        expect(await store.get(A)).toEqual(winners[0]);
      });

      test('eight clients counting on one key lose nothing', async () => {
        await store.create(A, '0');
        const clients = await Promise.all(Array.from({ length: 8 }, openAnother));
        await Promise.all(
          clients.map(async (client) => {
            for (let i = 0; i < 10; i += 1) await retryOnConflict(() => increment(client, A));
          }),
        );
        expect((await store.get(A))?.value).toBe('80');
      });
    });

    describe('watch', () => {
      test('gives put and delete in order, with values and revisions', async () => {
        const { revision } = await store.list(PREFIX);
        const recorder = watch(revision);
        const first = await store.create(A, '1');
        const other = await store.create(B, 'b');
        const second = await store.update(A, '2', first.revision);
        await store.delete(A);
        await recorder.until((events) => events.length >= 4);
        expect(recorder.events).toEqual([
          { type: 'put', entry: first },
          { type: 'put', entry: other },
          { type: 'put', entry: second },
          { type: 'delete', key: A, revision: expect.any(String) },
        ]);
        expect(revisionOf(recorder.events[3]!)).toBeGreaterThan(BigInt(second.revision));
      });

      test('gives what happened between the listing and its start', async () => {
        const before = await store.list(PREFIX);
        const first = await store.create(A, '1');
        const second = await store.update(A, '2', first.revision);
        const recorder = watch(before.revision);
        await recorder.until((events) => events.length >= 2);
        expect(recorder.events).toEqual([
          { type: 'put', entry: first },
          { type: 'put', entry: second },
        ]);
      });

      test('gives nothing of what the listing had, nor of other prefixes', async () => {
        await store.create(A, 'old');
        const { revision } = await store.list(PREFIX);
        const recorder = watch(revision);
        await store.create('/calico/test/ab', 'beside');
        await store.create('/calico/other', 'elsewhere');
        const last = await store.create(B, 'new');
        await recorder.until((events) => events.length >= 1);
        expect(recorder.events).toEqual([{ type: 'put', entry: last }]);
      });

      test('hears what another client does, each watcher by itself', async () => {
        const { revision } = await store.list(PREFIX);
        const other = await openAnother();
        const recorders = [watch(revision), watch(revision, PREFIX, other), watch(revision, '/calico/')];
        const third = await openAnother();
        const entry = await third.create(A, '1');
        for (const recorder of recorders) {
          await recorder.until((events) => events.length >= 1);
          expect(recorder.events).toEqual([{ type: 'put', entry }]);
        }
      });

      test('listing and watch together miss and double nothing while others write', async () => {
        const writers = await Promise.all(Array.from({ length: 3 }, openAnother));
        const writing = Promise.all(writers.map((client, i) => scribble(client, `${PREFIX}${i}`, 25)));
        await retryUntilSome(store);
        const listing = await store.list(PREFIX);
        const recorder = watch(listing.revision);
        await writing;
        const final = await store.list(PREFIX);
        const expected = new Map(final.entries.map((entry) => [entry.key, entry.value]));
        const state = () => JSON.stringify([...replay(listing, recorder.events)].sort());
        await recorder.until(() => state() === JSON.stringify([...expected].sort()));
        const revisions = [BigInt(listing.revision), ...recorder.events.map(revisionOf)];
        expect(revisions.every((revision, i) => i === 0 || revision > revisions[i - 1]!)).toBe(true);
      });

      test('ends when its signal aborts', async () => {
        const { revision } = await store.list(PREFIX);
        const recorder = watch(revision);
        await store.create(A, '1');
        await recorder.until((events) => events.length === 1);
        await recorder.stop();
        await store.create(B, '1');
        expect(recorder.events).toHaveLength(1);
        const late = new AbortController();
        late.abort();
        const seen: WatchEvent[] = [];
        for await (const event of store.watch(PREFIX, revision, { signal: late.signal })) seen.push(event);
        expect(seen).toEqual([]);
      });
    });
  });
}

async function increment(client: Datastore, key: string): Promise<void> {
  const entry = await client.get(key);
  if (!entry) throw new Error(`${key} is gone`);
  await client.update(key, String(Number(entry.value) + 1), entry.revision);
}

/** Creates, changes and deletes below one's own prefix. */
async function scribble(client: Datastore, prefix: string, rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i += 1) {
    const key = `${prefix}/${i % 4}`;
    const existing = await client.get(key);
    if (!existing) await client.create(key, `${i}`);
    else if (i % 3 === 0) await client.delete(key);
    else await client.update(key, `${i}`, existing.revision);
  }
}

async function retryUntilSome(store: Datastore): Promise<void> {
  for (let i = 0; i < 1_000; i += 1) if ((await store.list(PREFIX)).entries.length > 0) return;
}
