/**
 * The etcd datastore: keys and values are etcd's own, a key's revision is its mod_revision, as calicoctl shows
 * it. Create, update and delete are one transaction each: a comparison, the change where it holds, a reading of
 * the key where it does not. A listing comes in pages, all at the revision of the first.
 */
import { setImmediate } from 'node:timers/promises';
import type { ICompare, IKeyValue, IRangeRequest, ITxnResponse } from 'etcd3';
import type { Clock } from '../base/clock.ts';
import type { EtcdConnection } from './connection.ts';
import {
  AlreadyExistsError,
  ConflictError,
  type Datastore,
  type Entry,
  type Listing,
  type ListingReader,
  NotFoundError,
  type Revision,
  type WatchEvent,
  type WatchOptions,
} from './datastore.ts';
import { explainEtcdFailure } from './etcd-errors.ts';
import { failureOf } from './etcd-failure.ts';
import { EtcdMembers } from './etcd-members.ts';
import { watchEtcd } from './etcd-watch.ts';

/** Keys in one page of a listing: with blocks of a kilobyte some megabytes. */
const PAGE_KEYS = 4_000;

export class EtcdStore implements Datastore {
  readonly url: string;
  readonly #connection: EtcdConnection;
  readonly #members: EtcdMembers;
  readonly #clock: Clock;

  constructor(connection: EtcdConnection, clock: Clock) {
    this.#connection = connection;
    this.#members = new EtcdMembers(connection, clock);
    this.#clock = clock;
    this.url = `${connection.tls ? 'etcds' : 'etcd'}://${connection.endpoints.join(',')}`;
  }

  async get(key: string): Promise<Entry | undefined> {
    const response = await this.#explained(`read ${key}`, () =>
      this.#members.read({ key: Buffer.from(key) }),
    );
    return response.kvs[0] && entryOf(response.kvs[0]);
  }

  async list(prefix: string): Promise<Listing> {
    return this.#explained(`list ${prefix}`, () => this.#list(prefix));
  }

  async scan(prefix: string, reader: ListingReader): Promise<Revision> {
    return this.#explained(`list ${prefix}`, () => this.#scan(prefix, reader));
  }

  async create(key: string, value: string): Promise<Entry> {
    const compare: ICompare = {
      key: Buffer.from(key),
      target: 'Create',
      result: 'Equal',
      create_revision: 0,
    };
    const response = await this.#write(`create ${key}`, key, value, compare);
    if (!response.succeeded) throw new AlreadyExistsError(key, existingOf(response));
    return { key, value, revision: response.header.revision as Revision };
  }

  async update(key: string, value: string, expected: Revision): Promise<Entry> {
    const response = await this.#write(`update ${key}`, key, value, isAt(key, expected));
    if (!response.succeeded) throw refusal(key, expected, existingOf(response));
    return { key, value, revision: response.header.revision as Revision };
  }

  async delete(key: string, expected?: Revision): Promise<Entry> {
    const bytes = Buffer.from(key);
    const response = await this.#explained(`delete ${key}`, () =>
      this.#members.write({
        compare: expected === undefined ? [] : [isAt(key, expected)],
        success: [{ request_delete_range: { key: bytes, prev_kv: true } }],
        failure: [{ request_range: { key: bytes } }],
      }),
    );
    if (!response.succeeded) throw refusal(key, expected!, existingOf(response));
    const deleted = response.responses[0]?.response_delete_range?.prev_kvs[0];
    if (!deleted) throw new NotFoundError(key);
    return entryOf(deleted);
  }

  watch(prefix: string, from: Revision, options: WatchOptions): AsyncIterable<WatchEvent> {
    return watchEtcd(
      { prefix, members: this.#members, clock: this.#clock, list: () => this.#list(prefix) },
      from,
      options,
    );
  }

  async close(): Promise<void> {
    this.#members.close();
  }

  async #list(prefix: string): Promise<Listing> {
    let entries: Entry[] = [];
    const reader: ListingReader = {
      begin: () => {
        entries = [];
      },
      page: (page) => {
        for (const entry of page) entries.push(entry);
      },
    };
    const revision = await this.#scan(prefix, reader);
    return { entries, revision };
  }

  async #scan(prefix: string, reader: ListingReader): Promise<Revision> {
    for (;;) {
      reader.begin();
      try {
        return await this.#scanAtOneRevision(prefix, reader);
      } catch (error) {
        // Somebody compacted the revision of our first page away: begin again at a younger one.
        if (failureOf(error).kind !== 'compacted') throw error;
      }
    }
  }

  async #scanAtOneRevision(prefix: string, reader: ListingReader): Promise<Revision> {
    const range: IRangeRequest = { range_end: prefixEnd(prefix), limit: PAGE_KEYS };
    let page = await this.#members.readPage({ ...range, key: Buffer.from(prefix) });
    const { revision } = page;
    for (;;) {
      const { entries, nextKey } = page;
      if (!nextKey) {
        reader.page(entries);
        return revision;
      }
      // The member looks for the next page while we read this one.
      const next = this.#members.readPage({ ...range, key: nextKey, revision });
      // Whoever stops here, because the reader throws, does not wait for it.
      next.catch(() => {});
      await setImmediate();
      reader.page(entries);
      page = await next;
    }
  }

  #write(action: string, key: string, value: string, compare: ICompare): Promise<ITxnResponse> {
    const bytes = Buffer.from(key);
    const size = Buffer.byteLength(value);
    return this.#explained(
      action,
      () =>
        this.#members.write({
          compare: [compare],
          success: [{ request_put: { key: bytes, value: Buffer.from(value) } }],
          failure: [{ request_range: { key: bytes } }],
        }),
      size,
    );
  }

  async #explained<T>(action: string, run: () => Promise<T>, valueBytes?: number): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw await explainEtcdFailure(failureOf(error), {
        action,
        connection: this.#connection,
        url: this.url,
        valueBytes,
      });
    }
  }
}

function isAt(key: string, expected: Revision): ICompare {
  return { key: Buffer.from(key), target: 'Mod', result: 'Equal', mod_revision: expected };
}

/** What a transaction whose comparison did not hold found instead. */
function existingOf(response: ITxnResponse): Entry | undefined {
  const kv = response.responses[0]?.response_range?.kvs[0];
  return kv && entryOf(kv);
}

function refusal(key: string, expected: Revision, existing: Entry | undefined): Error {
  return existing ? new ConflictError(key, expected, existing) : new NotFoundError(key);
}

export function entryOf(kv: IKeyValue): Entry {
  return {
    key: kv.key.toString('utf8'),
    value: kv.value.toString('utf8'),
    revision: kv.mod_revision as Revision,
  };
}

/** The first key after all that begin with the prefix, which ends in `/`: its last byte plus one. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]! += 1;
  return end;
}
