/** The file datastore and people: edits by hand, foreign files, a directory that comes and goes, dead writers' remains. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Datastore, Entry, Revision } from '../../src/store/datastore.ts';
import { openFileStore } from '../../src/store/open.ts';
import { WatchRecorder } from '../helpers/datastore-watching.ts';

const KEY = '/calico/pools/one';
const PREFIX = '/calico/';

let parent: string;
let directory: string;
let store: Datastore;
const recorders: WatchRecorder[] = [];

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'tortie-store-'));
  directory = join(parent, 'store');
  store = openFileStore(directory);
});

afterEach(async () => {
  await Promise.all(recorders.splice(0).map((recorder) => recorder.stop()));
  rmSync(parent, { recursive: true, force: true });
});

function byHand(key: string, value: string): void {
  mkdirSync(dirname(join(directory, key)), { recursive: true });
  writeFileSync(join(directory, key), value);
}

async function watchAll(prefix = PREFIX): Promise<WatchRecorder> {
  const recorder = new WatchRecorder(openFileStore(directory), prefix, (await store.list(prefix)).revision);
  recorders.push(recorder);
  return recorder;
}

function logFile(): string {
  const log = join(directory, '.tortie/log');
  return join(log, readdirSync(log).sort().at(-1)!);
}

describe('edits by hand', () => {
  test('have a revision of their own, good for compare-and-swap', async () => {
    const written = await store.create(KEY, 'written');
    byHand(KEY, 'edited');
    await expect(store.update(KEY, 'x', written.revision)).rejects.toMatchObject({
      code: 'ERR_STORE_CONFLICT',
    });
    const edited = (await store.get(KEY)) as Entry;
    expect(edited.value).toBe('edited');
    expect(BigInt(edited.revision)).toBeGreaterThan(BigInt(written.revision));
    expect((await store.list(PREFIX)).entries).toEqual([edited]);
    expect((await store.update(KEY, 'again', edited.revision)).value).toBe('again');
  });

  test('a file laid down before there was a store is a key', async () => {
    byHand(KEY, 'laid down');
    const { entries, revision } = await store.list(PREFIX);
    expect(entries).toEqual([{ key: KEY, value: 'laid down', revision: '1' }]);
    expect(revision).toBe('1');
    expect(await store.get(KEY)).toEqual(entries[0]);
    await expect(store.create(KEY, 'x')).rejects.toMatchObject({ code: 'ERR_STORE_EXISTS' });
  });

  test('watchers see them: changed, new, removed, whole directories', async () => {
    const written = await store.create(KEY, 'written');
    const recorder = await watchAll();
    const expectNext = async (expected: readonly object[]) => {
      await recorder.until((events) => events.length >= expected.length);
      expect(recorder.events.splice(0)).toEqual(expected);
    };
    const put = (key: string, value: string) => ({
      type: 'put',
      entry: { key, value, revision: expect.any(String) },
    });
    const del = (key: string) => ({ type: 'delete', key, revision: expect.any(String) });
    byHand(KEY, 'edited');
    await expectNext([put(KEY, 'edited')]);
    byHand('/calico/new/deep/a', 'a');
    await expectNext([put('/calico/new/deep/a', 'a')]);
    byHand('/calico/new/deep/b', 'b');
    await expectNext([put('/calico/new/deep/b', 'b')]);
    renameSync(join(directory, 'calico/new/deep'), join(directory, 'calico/new/moved'));
    await recorder.until((events) => events.length >= 4);
    expect(recorder.events.splice(0)).toEqual(
      expect.arrayContaining([
        del('/calico/new/deep/a'),
        del('/calico/new/deep/b'),
        put('/calico/new/moved/a', 'a'),
        put('/calico/new/moved/b', 'b'),
      ]),
    );
    byHand('/calico/new/moved/a', 'still watched');
    await expectNext([put('/calico/new/moved/a', 'still watched')]);
    rmSync(join(directory, KEY));
    await expectNext([del(KEY)]);
    await expect(store.update(KEY, 'x', written.revision)).rejects.toMatchObject({
      code: 'ERR_STORE_NOT_FOUND',
    });
    rmSync(join(directory, 'calico/new'), { recursive: true });
    await recorder.until((events) => events.length >= 2);
    expect(recorder.events).toEqual(
      expect.arrayContaining([del('/calico/new/moved/a'), del('/calico/new/moved/b')]),
    );
    expect((await store.list(PREFIX)).entries).toEqual([]);
  });

  test('a file that is touched, or saved as it was, is no change', async () => {
    const written = await store.create(KEY, 'same');
    const recorder = await watchAll();
    utimesSync(join(directory, KEY), 1, 1);
    byHand(KEY, 'same');
    expect(await store.get(KEY)).toEqual(written);
    const after = await store.create('/calico/pools/two', 'after');
    await recorder.until((events) => events.length > 0);
    expect(recorder.events).toEqual([{ type: 'put', entry: after }]);
    expect(BigInt(after.revision)).toBe(BigInt(written.revision) + 1n);
  });

  test('several watchers: one revision for one edit', async () => {
    await store.create(KEY, 'written');
    const all = await Promise.all([watchAll(), watchAll(), watchAll('/'), watchAll('/calico/pools/')]);
    byHand(KEY, 'edited');
    for (const recorder of all) {
      await recorder.until((events) => events.length > 0);
      expect(recorder.events).toEqual([{ type: 'put', entry: { key: KEY, value: 'edited', revision: '2' } }]);
    }
    expect((await store.list('/')).revision).toBe('2');
  });

  test('an edit while nobody was looking is seen once a watch begins', async () => {
    await store.create(KEY, 'written');
    const { revision } = await store.list(PREFIX);
    byHand(KEY, 'edited');
    const recorder = new WatchRecorder(store, PREFIX, revision);
    recorders.push(recorder);
    await recorder.until((events) => events.length > 0);
    expect(recorder.events).toEqual([{ type: 'put', entry: { key: KEY, value: 'edited', revision: '2' } }]);
  });
});

describe('what is no key', () => {
  test('hidden files and an editor’s backups are left alone', async () => {
    await store.create(KEY, '1');
    byHand('/calico/pools/.one.swp', 'x');
    byHand('/calico/pools/one~', 'x');
    byHand('/calico/.git/config', 'x');
    expect((await store.list('/')).entries.map((entry) => entry.key)).toEqual([KEY]);
    expect((await store.list('/')).revision).toBe('1');
  });

  test.each([
    'calico/x',
    '/calico/../../etc/passwd',
    '/calico/./x',
    '/calico//x',
    '/calico/x/',
    '/calico/.hidden',
    '/calico/x~',
    '/.tortie/lock',
    '/calico/a\0b',
    `/calico/${'x'.repeat(256)}`,
    `/calico${'/x'.repeat(2_000)}`,
    '/',
    '',
  ])('the key %j is refused', async (key) => {
    const refused = expect.objectContaining({ code: 'ERR_STORE_KEY', exitCode: 3 });
    await expect(store.get(key)).rejects.toEqual(refused);
    await expect(store.create(key, 'x')).rejects.toEqual(refused);
    await expect(store.update(key, 'x', '1' as Revision)).rejects.toEqual(refused);
    await expect(store.delete(key)).rejects.toEqual(refused);
    expect(existsSync(directory)).toBe(false);
  });

  test('a value and keys below it cannot be had at once, and the refusal changes nothing', async () => {
    await store.create(KEY, '1');
    const hint = { code: 'ERR_STORE_UNAVAILABLE', message: expect.stringContaining('keys below it') };
    await expect(store.create(`${KEY}/below`, '2')).rejects.toMatchObject(hint);
    await expect(store.create('/calico/pools', '2')).rejects.toMatchObject(hint);
    expect(await store.list('/')).toMatchObject({ entries: [{ key: KEY, value: '1' }], revision: '1' });
    expect((await store.create('/calico/pools/two', '2')).revision).toBe('2');
  });
});

describe('a directory that comes and goes', () => {
  test('reading does not make it, writing does', async () => {
    expect(await store.get(KEY)).toBeUndefined();
    expect(await store.list('/')).toEqual({ entries: [], revision: '0' });
    expect(existsSync(directory)).toBe(false);
    await store.create(KEY, '1');
    expect(readFileSync(join(directory, KEY), 'utf8')).toBe('1');
  });

  test('a watch outlives its making, its going and its return: gone is away, not everything deleted', async () => {
    const recorder = await watchAll();
    const entry = await store.create(KEY, '1');
    await recorder.until((events) => events.length === 1);
    const elsewhere = join(parent, 'elsewhere');
    renameSync(directory, elsewhere);
    await recorder.untilState((states) => /^disconnected: .* is gone/.test(states.at(-1) ?? ''));
    mkdirSync(directory); // the mount point that an unmounted file system leaves
    await systemClock.sleep(700); // sleeps: nothing may happen, longer than a failing watch waits
    expect(recorder.events).toEqual([{ type: 'put', entry }]);
    renameSync(elsewhere, directory);
    await recorder.untilState((states) => states.at(-1) === 'connected');
    const next = await store.update(KEY, '2', entry.revision);
    await recorder.until((events) => events.length > 1);
    expect(recorder.events.slice(1)).toEqual([{ type: 'put', entry: next }]);
  });

  test('what comes in place of a directory that went is taken by a resync', async () => {
    const recorder = await watchAll();
    await store.create(KEY, '1');
    await recorder.until((events) => events.length === 1);
    renameSync(directory, join(parent, 'elsewhere'));
    await recorder.untilState((states) => states.at(-1)?.startsWith('disconnected') ?? false);
    byHand(KEY, 'another');
    await recorder.until((events) => events.at(-1)?.type === 'resync');
    expect(recorder.events.at(-1)).toMatchObject({ listing: { entries: [{ key: KEY, value: 'another' }] } });
  });

  test('directories that no key needs any more are removed', async () => {
    await store.create('/calico/deep/down/key', '1');
    await store.create(KEY, '1');
    await store.delete('/calico/deep/down/key');
    expect(readdirSync(join(directory, 'calico'))).toEqual(['pools']);
    expect(readdirSync(join(directory, '.tortie/keys/calico'))).toEqual(['pools']);
  });

  test('a place that cannot be written says so', async () => {
    const nowhere = openFileStore('/proc/tortie-store');
    await expect(nowhere.create(KEY, '1')).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      message: expect.stringContaining('file:///proc/tortie-store could not create /calico/pools/one'),
    });
  });
});

describe('what dead writers leave', () => {
  test('a torn line of the log is no change', async () => {
    await store.create(KEY, '1');
    appendFileSync(logFile(), '{"revision":"2","type":"put","key":"/calico/po');
    expect((await store.list(PREFIX)).revision).toBe('1');
    const recorder = await watchAll();
    const next = await store.create('/calico/pools/two', '2');
    expect(next.revision).toBe('2');
    await recorder.until((events) => events.length > 0);
    expect(recorder.events).toEqual([{ type: 'put', entry: next }]);
  });

  test('a line without its newline, its value not in place: no change', async () => {
    await store.create(KEY, '1');
    appendFileSync(logFile(), JSON.stringify({ revision: '2', type: 'put', key: KEY, value: 'never' }));
    expect(await store.get(KEY)).toMatchObject({ value: '1', revision: '1' });
    expect(await store.create('/calico/pools/two', '2')).toMatchObject({ revision: '2' });
    expect(await store.get(KEY)).toMatchObject({ value: '1', revision: '1' });
  });

  test('a line without its newline, its value in place: adopted, once', async () => {
    await store.create(KEY, '1');
    const recorder = await watchAll();
    appendFileSync(logFile(), JSON.stringify({ revision: '2', type: 'put', key: KEY, value: 'half' }));
    byHand(KEY, 'half');
    expect(await store.get(KEY)).toMatchObject({ value: 'half', revision: '2' });
    const next = await store.create('/calico/pools/two', '2');
    expect(next.revision).toBe('3');
    await recorder.until((events) => events.length >= 2);
    expect(recorder.events).toEqual([
      { type: 'put', entry: { key: KEY, value: 'half', revision: '2' } },
      { type: 'put', entry: next },
    ]);
  });

  test('a change without its index keeps its revision', async () => {
    const first = await store.create(KEY, '1');
    const index = join(directory, '.tortie/keys', KEY);
    const old = readFileSync(index);
    const second = await store.update(KEY, '2', first.revision);
    writeFileSync(index, old);
    expect(await store.get(KEY)).toEqual(second);
    expect((await store.list(PREFIX)).revision).toBe(second.revision);
  });

  test('a deletion without its index keeps its revision', async () => {
    await store.create(KEY, '1');
    const index = join(directory, '.tortie/keys', KEY);
    const old = readFileSync(index);
    await store.delete(KEY);
    mkdirSync(dirname(index), { recursive: true });
    writeFileSync(index, old);
    expect(await store.get(KEY)).toBeUndefined();
    expect(await store.create('/calico/pools/two', '2')).toMatchObject({ revision: '3' });
  });

  test('a log that was deleted does not take the revisions back', async () => {
    const first = await store.create(KEY, '1');
    const second = await store.update(KEY, '2', first.revision);
    const recorder = await watchAll();
    rmSync(join(directory, '.tortie/log'), { recursive: true });
    const next = await store.create('/calico/pools/two', '2');
    expect(BigInt(next.revision)).toBeGreaterThan(BigInt(second.revision));
    await recorder.until((events) => JSON.stringify(events).includes('/calico/pools/two'));
  });

  test('an index that was deleted is made anew', async () => {
    await store.create(KEY, '1');
    rmSync(join(directory, '.tortie'), { recursive: true });
    expect((await store.list(PREFIX)).entries).toMatchObject([{ key: KEY, value: '1' }]);
    const entry = (await store.get(KEY)) as Entry;
    expect((await store.update(KEY, '2', entry.revision)).value).toBe('2');
  });
});

test('a watcher that fell behind the bounded log gets a resync', { timeout: 60_000 }, async () => {
  let entry = await store.create(KEY, 'x');
  for (let i = 0; i < 60; i += 1)
    entry = await store.update(KEY, `${i}${'x'.repeat(100_000)}`, entry.revision);
  const segments = readdirSync(join(directory, '.tortie/log'));
  expect(segments.length).toBeGreaterThan(1);
  expect(segments.length).toBeLessThanOrEqual(4);
  const recorder = new WatchRecorder(store, PREFIX, '1' as Revision);
  recorders.push(recorder);
  await recorder.until((events) => events.length > 0);
  expect(recorder.events[0]).toEqual({
    type: 'resync',
    listing: { entries: [entry], revision: entry.revision },
  });
  const next = await store.update(KEY, 'next', entry.revision);
  await recorder.until((events) => events.length > 1);
  expect(recorder.events[1]).toEqual({ type: 'put', entry: next });
});
