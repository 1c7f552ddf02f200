/**
 * The file datastore. Theory of operation: the key is the path below the directory, the file is the value;
 * `cat`, an editor and `git diff` work on it. Beside the values, `.tortie` holds
 *   lock        flock(2), held by a writer for as long as one change takes
 *   keys/KEY    {revision, sha256} of what a writer of ours put there
 *   log/FIRST   the changes in order (file-log.ts): the store's revision, and what watchers read
 *
 * Writing (file-transaction.ts), under the lock: log line prepared -> value renamed into place -> newline of
 * the log line -> index renamed into place -> everything synced to disk.
 *
 * Reading takes no lock. A value whose hash is its index's is a state that somebody meant. Otherwise a writer
 * is between its renames (microseconds: look again), or died there, or a person edited the file: then the
 * reader takes the lock like a writer and gives the value its revision ("adopts" it), so that every revision
 * ever shown can be used for compare-and-swap. A reader that may not write shows the last known revision
 * instead; a write that expects that one is refused with a conflict, which is safe.
 *
 * Listing reads the log's revision, all files, and the log again; changes in between are applied to what was
 * read, so that the listing is exactly the state at its revision and a watch from there misses and doubles
 * nothing (file-watch.ts).
 */
import { statSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import {
  AlreadyExistsError,
  ConflictError,
  type Datastore,
  DatastoreUnavailableError,
  type Entry,
  type Listing,
  type ListingReader,
  NotFoundError,
  type Revision,
  type WatchEvent,
  type WatchOptions,
} from './datastore.ts';
import { explainFileError } from './file-errors.ts';
import { checkKey, checkPrefix } from './file-keys.ts';
import { LogReader, readRevision } from './file-log.ts';
import { FileTransaction, toRevision } from './file-transaction.ts';
import { isSettled, keysBelow, readSeen, type Seen } from './file-values.ts';
import { watchFiles } from './file-watch.ts';
import { withLock } from './file-writer.ts';
import type { FileLock } from './lock.ts';

export interface FileStoreOptions {
  readonly directory: string;
  /** Loaded by the first writer, since readers need no system calls of our own. */
  readonly lock: () => Promise<FileLock>;
  readonly clock: Clock;
  readonly random: Random;
  /** How long a writer waits for the lock. */
  readonly lockTimeoutMs?: number;
}

const LOCK_TIMEOUT_MS = 10_000;

/** A reader that would adopt waits less: it has an answer that is good enough. */
const ADOPT_TIMEOUT_MS = 2_000;

/** What a reader waits for a writer that is between its renames, before it takes the lock itself. */
const SETTLE_WAITS_MS = [0, 1, 5];

/** A listing lets others run after this many keys. */
const KEYS_AT_A_TIME = 500;

export class FileStore implements Datastore {
  readonly url: string;
  readonly #root: string;
  readonly #options: FileStoreOptions;

  constructor(options: FileStoreOptions) {
    this.#options = options;
    this.#root = options.directory;
    this.url = `file://${options.directory}`;
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    return this.#explained(`read ${key}`, async () => {
      const seen = readSeen(this.#root, key);
      if (isSettled(seen)) return entryOf(seen);
      return (await this.#settle([key])).get(key);
    });
  }

  async list(prefix: string): Promise<Listing> {
    checkPrefix(prefix);
    return this.#explained(`list ${prefix}`, async () => {
      refuseFile(this.#root);
      for (;;) {
        const listing = await this.#tryList(prefix);
        if (listing) return listing;
      }
    });
  }

  async scan(prefix: string, reader: ListingReader): Promise<Revision> {
    const { entries, revision } = await this.list(prefix);
    reader.begin();
    reader.page(entries);
    return revision;
  }

  async create(key: string, value: string): Promise<Entry> {
    return this.#write(`create ${key}`, key, (transaction) => {
      const existing = transaction.look(key);
      if (existing) throw new AlreadyExistsError(key, existing);
      return transaction.put(key, value);
    });
  }

  async update(key: string, value: string, expected: Revision): Promise<Entry> {
    return this.#write(`update ${key}`, key, (transaction) => {
      expectRevision(key, transaction.look(key), expected);
      return transaction.put(key, value);
    });
  }

  async delete(key: string, expected?: Revision): Promise<Entry> {
    return this.#write(`delete ${key}`, key, (transaction) => {
      const existing = expectRevision(key, transaction.look(key), expected);
      transaction.remove(key);
      return existing;
    });
  }

  watch(prefix: string, from: Revision, options: WatchOptions): AsyncIterable<WatchEvent> {
    checkPrefix(prefix);
    return watchFiles(
      {
        root: this.#root,
        prefix,
        clock: this.#options.clock,
        list: () => this.list(prefix),
        settle: async (keys) => {
          await this.#adopt(await this.#waitUntilSettled(keys, new Map()));
        },
      },
      Number(from),
      options,
    );
  }

  async close(): Promise<void> {}

  /** The state of all keys below the prefix at one revision; undefined where the log moved on too far. */
  async #tryList(prefix: string): Promise<Listing | undefined> {
    const before = readRevision(this.#root);
    const entries = new Map<string, Entry>();
    const unsettled: string[] = [];
    let count = 0;
    for (const key of keysBelow(this.#root, prefix)) {
      const seen = readSeen(this.#root, key);
      const entry = entryOf(seen);
      if (!isSettled(seen)) unsettled.push(key);
      else if (entry) entries.set(key, entry);
      count += 1;
      if (count % KEYS_AT_A_TIME === 0) await new Promise(setImmediate);
    }
    for (const [key, entry] of await this.#settle(unsettled)) if (entry) entries.set(key, entry);
    const revision = this.#catchUp(entries, prefix, before);
    if (revision === undefined) return undefined;
    const sorted = [...entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    return { entries: sorted, revision: toRevision(revision) };
  }

  /** Applies what happened while the files were read; gives the revision that the entries are now at. */
  #catchUp(entries: Map<string, Entry>, prefix: string, before: number): number | undefined {
    if (readRevision(this.#root) === before) return before;
    const log = new LogReader(this.#root, before);
    const changes = log.read();
    if (changes === 'gap') return undefined;
    for (const change of changes) {
      if (!change.key.startsWith(prefix)) continue;
      if (change.type === 'delete') entries.delete(change.key);
      else
        entries.set(change.key, {
          key: change.key,
          value: change.value,
          revision: toRevision(change.revision),
        });
    }
    return log.revision;
  }

  /** Entries of keys whose value and index did not agree: they do soon, or we see to it. */
  async #settle(keys: readonly string[]): Promise<Map<string, Entry | undefined>> {
    const settled = new Map<string, Entry | undefined>();
    const edited = await this.#waitUntilSettled(keys, settled);
    try {
      for (const [key, entry] of await this.#adopt(edited)) settled.set(key, entry);
    } catch (error) {
      const explained = explainFileError(error, 'adopt', this.#root);
      if (!(explained instanceof DatastoreUnavailableError)) throw error;
      for (const key of edited) settled.set(key, this.#provisional(key));
    }
    return settled;
  }

  /** Leaves a writer the time between its two renames; gives the keys that are still not settled. */
  async #waitUntilSettled(
    keys: readonly string[],
    settled: Map<string, Entry | undefined>,
  ): Promise<readonly string[]> {
    let rest = keys;
    for (const waitMs of SETTLE_WAITS_MS) {
      if (rest.length === 0) return rest;
      await this.#options.clock.sleep(waitMs);
      rest = rest.filter((key) => {
        const seen = readSeen(this.#root, key);
        if (isSettled(seen)) settled.set(key, entryOf(seen));
        return !isSettled(seen);
      });
    }
    return rest;
  }

  /** Gives edited values their revisions. */
  async #adopt(keys: readonly string[]): Promise<Map<string, Entry | undefined>> {
    const adopted = new Map<string, Entry | undefined>();
    for (let i = 0; i < keys.length; i += KEYS_AT_A_TIME) {
      const some = keys.slice(i, i + KEYS_AT_A_TIME);
      const entries = await this.#transact(ADOPT_TIMEOUT_MS, (transaction) => transaction.lookAtAll(some));
      for (const [key, entry] of entries) adopted.set(key, entry);
      await new Promise(setImmediate);
    }
    return adopted;
  }

  /** What a reader shows that may not (or cannot now) write the index. */
  #provisional(key: string): Entry | undefined {
    const { value, index } = readSeen(this.#root, key);
    if (value === undefined) return undefined;
    return { key, value, revision: toRevision(index?.revision ?? readRevision(this.#root)) };
  }

  async #write<T>(action: string, key: string, change: (transaction: FileTransaction) => T): Promise<T> {
    checkKey(key);
    return this.#explained(action, () =>
      this.#transact(this.#options.lockTimeoutMs ?? LOCK_TIMEOUT_MS, change),
    );
  }

  #transact<T>(timeoutMs: number, change: (transaction: FileTransaction) => T): Promise<T> {
    return withLock(this.#root, this.#options, timeoutMs, () => {
      const transaction = new FileTransaction(this.#root);
      try {
        return change(transaction);
      } finally {
        transaction.close();
      }
    });
  }

  async #explained<T>(action: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw explainFileError(error, action, this.#root);
    }
  }
}

/** A missing directory is an empty datastore; a file in its place is a mistake. @throws as `mkdir` would */
function refuseFile(root: string): void {
  if (statSync(root, { throwIfNoEntry: false })?.isDirectory() !== false) return;
  throw new DatastoreUnavailableError(`the datastore file://${root} is no directory`, false, {
    hint: 'Choose another one with --datastore file:///DIRECTORY.',
  });
}

function entryOf({ key, value, index }: Seen): Entry | undefined {
  return value === undefined || !index ? undefined : { key, value, revision: toRevision(index.revision) };
}

/** @throws NotFoundError, ConflictError */
function expectRevision(key: string, existing: Entry | undefined, expected: Revision | undefined): Entry {
  if (!existing) throw new NotFoundError(key);
  if (expected !== undefined && existing.revision !== expected)
    throw new ConflictError(key, expected, existing);
  return existing;
}
