/** The file datastore on a disk that is full, and on one that is read-only: a small tmpfs of our own (root). */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { TortieError } from '../../src/base/errors.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { openFileStore } from '../../src/store/open.ts';

let mountPoint: string;
let directory: string;
let store: Datastore;

function run(program: string, ...words: readonly string[]): void {
  const { status, stderr } = spawnSync(program, words, { encoding: 'utf8', timeout: 10_000 });
  if (status !== 0) throw new Error(`${program} ${words.join(' ')} failed: ${stderr}`);
}

beforeEach(() => {
  mountPoint = mkdtempSync(join(tmpdir(), 'tortie-full-'));
  run('mount', '-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', mountPoint);
  directory = join(mountPoint, 'store');
  store = openFileStore(directory);
});

afterEach(() => {
  run('umount', mountPoint);
  rmdirSync(mountPoint);
});

/** Creates keys of so many bytes until one is refused. */
async function fill(name: string, bytes: number): Promise<{ error: TortieError; key: string }> {
  for (let i = 0; ; i += 1) {
    const key = `/calico/${name}/${i}`;
    try {
      await store.create(key, 'x'.repeat(bytes));
    } catch (error) {
      return { error: error as TortieError, key };
    }
  }
}

test('a full disk: said, nothing changed, nothing torn, and usable again once there is space', async () => {
  const { error, key } = await fill('large', 5_000);
  expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true });
  expect(error.message).toBe(`the datastore file://${directory} could not create ${key}: no space is left`);
  const small = await fill('small', 1);
  expect(await store.get(key)).toBeUndefined();
  expect(await store.get(small.key)).toBeUndefined();
  const listing = await store.list('/');
  for (const entry of listing.entries) expect(entry.value).toMatch(/^x{1}$|^x{5000}$/);
  // Each key was one change, and a refused one is none.
  expect(listing.revision).toBe(String(listing.entries.length));
  rmSync(join(directory, 'calico/large/0'));
  rmSync(join(directory, 'calico/large/1'));
  expect((await store.create('/calico/after', 'x')).value).toBe('x');
});

test('a read-only disk: read, and said when written', async () => {
  const entry = await store.create('/calico/key', 'x');
  run('mount', '-o', 'remount,ro', mountPoint);
  expect(await store.get('/calico/key')).toEqual(entry);
  await expect(store.update('/calico/key', 'y', entry.revision)).rejects.toMatchObject({
    code: 'ERR_STORE_UNAVAILABLE',
    retryable: false,
    message: expect.stringContaining('could not update /calico/key: the file system is read-only'),
  });
});
