/**
 * The datastore port: Calico's keys and values, compare-and-swap, list, watch. One contract test suite
 * (test/contract/datastore.contract.ts) holds every driver to the same behaviour.
 *
 * Keys are absolute (`/calico/…`), values are text exactly as Calico stores it. A revision is the decimal
 * number that Calico shows as resourceVersion: of one key's last change, or of the whole store.
 */
import { FailedError } from '../base/errors.ts';

/** A decimal number without sign or leading zeros; grows with every change of the whole store. */
export type Revision = string & { readonly __brand: 'Revision' };

export interface Entry {
  readonly key: string;
  readonly value: string;
  /** The revision of the change that gave this value. */
  readonly revision: Revision;
}

export interface Listing {
  /** Sorted by key. */
  readonly entries: readonly Entry[];
  /** Of the store when it was listed: a watch from here misses nothing. */
  readonly revision: Revision;
}

/** Takes a listing in parts. */
export interface ListingReader {
  /** A listing begins; again where it had to be given up, and what was read of it is void. */
  begin(): void;
  /** Its next entries, sorted by key as all are; to be gone through once, before this returns. */
  page(entries: Iterable<Entry>): void;
}

/** Changes come in the order of their revisions, each exactly once; or a resync replaces all that was known. */
export type WatchEvent =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: string; readonly revision: Revision }
  | { readonly type: 'resync'; readonly listing: Listing };

export interface Datastore {
  /** For messages: `file:///var/lib/tortie`, `etcd://…` (never a password). */
  readonly url: string;
  get(key: string): Promise<Entry | undefined>;
  /** Every key that begins with `prefix`, which ends in `/`. */
  list(prefix: string): Promise<Listing>;
  /** As `list`, in parts as they come: for more than is to be held at once. Gives the revision that all are at. */
  scan(prefix: string, reader: ListingReader): Promise<Revision>;
  /** @throws AlreadyExistsError */
  create(key: string, value: string): Promise<Entry>;
  /** @throws ConflictError where the key is there at another revision, NotFoundError where it is not */
  update(key: string, value: string, expected: Revision): Promise<Entry>;
  /** Gives what was deleted. @throws ConflictError, NotFoundError */
  delete(key: string, expected?: Revision): Promise<Entry>;
  /**
   * Every change below `prefix` after revision `from`, until the signal aborts. Outages are survived inside:
   * `onState` hears of them, and after one the iteration continues without a gap or yields a resync.
   */
  watch(prefix: string, from: Revision, options: WatchOptions): AsyncIterable<WatchEvent>;
  close(): Promise<void>;
}

export interface WatchOptions {
  readonly signal: AbortSignal;
  readonly onState?: (state: 'connected' | 'disconnected', why?: string) => void;
}

/** The key is there although it should not be. `existing` is what is there. */
export class AlreadyExistsError extends FailedError {
  readonly existing: Entry | undefined;
  constructor(key: string, existing?: Entry) {
    super('ERR_STORE_EXISTS', `the datastore already holds ${key}`);
    this.existing = existing;
  }
}

/** The key changed since it was read; read it again and decide anew. */
export class ConflictError extends FailedError {
  readonly existing: Entry | undefined;
  constructor(key: string, expected: Revision, existing?: Entry) {
    super(
      'ERR_STORE_CONFLICT',
      `${key} changed in the datastore: expected revision ${expected}, got ${existing?.revision ?? 'another'}`,
    );
    this.existing = existing;
  }
}

export class NotFoundError extends FailedError {
  constructor(key: string) {
    super('ERR_STORE_NOT_FOUND', `the datastore does not hold ${key}`);
  }
}

/** The datastore cannot be reached or refuses us; `retryable` says whether waiting may help. */
export class DatastoreUnavailableError extends FailedError {
  readonly retryable: boolean;
  constructor(message: string, retryable: boolean, details?: { hint?: string; cause?: unknown }) {
    super('ERR_STORE_UNAVAILABLE', message, details);
    this.retryable = retryable;
  }
}
