/**
 * A datastore in memory that passes the contract suite: for tests that need thousands of short histories.
 * `turn` is waited for before each operation, which is where a test may put another order of events.
 */
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
} from '../../src/store/datastore.ts';

type Change = Exclude<WatchEvent, { type: 'resync' }>;

/** The content, which several clients may share. */
export class MemoryContent {
  readonly entries = new Map<string, Entry>();
  readonly changes: Change[] = [];
  readonly listeners = new Set<() => void>();

  revision(): Revision {
    return String(this.changes.length + 1) as Revision;
  }

  /** The content as plain texts, for assertions. */
  values(): Map<string, string> {
    return new Map([...this.entries].map(([key, { value }]) => [key, value]));
  }

  record(make: (revision: Revision) => Change): void {
    this.changes.push(make(String(this.changes.length + 2) as Revision));
    for (const listener of this.listeners) listener();
  }
}

function keyOf(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key;
}

export class MemoryStore implements Datastore {
  readonly url = 'memory://';
  readonly #content: MemoryContent;
  readonly #turn: () => Promise<void>;

  constructor(content = new MemoryContent(), turn: () => Promise<void> = async () => {}) {
    this.#content = content;
    this.#turn = turn;
  }

  async get(key: string): Promise<Entry | undefined> {
    await this.#turn();
    return this.#content.entries.get(key);
  }

  async list(prefix: string): Promise<Listing> {
    await this.#turn();
    const entries = [...this.#content.entries.values()]
      .filter(({ key }) => key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    return { entries, revision: this.#content.revision() };
  }

  async scan(prefix: string, reader: ListingReader): Promise<Revision> {
    const { entries, revision } = await this.list(prefix);
    reader.begin();
    reader.page(entries);
    return revision;
  }

  async create(key: string, value: string): Promise<Entry> {
    await this.#turn();
    const existing = this.#content.entries.get(key);
    if (existing) throw new AlreadyExistsError(key, existing);
    return this.#put(key, value);
  }

  async update(key: string, value: string, expected: Revision): Promise<Entry> {
    await this.#turn();
    this.#require(key, expected);
    return this.#put(key, value);
  }

  async delete(key: string, expected?: Revision): Promise<Entry> {
    await this.#turn();
    const existing = this.#require(key, expected);
    this.#content.entries.delete(key);
    this.#content.record((revision) => ({ type: 'delete', key, revision }));
    return existing;
  }

  #require(key: string, expected: Revision | undefined): Entry {
    const existing = this.#content.entries.get(key);
    if (!existing) throw new NotFoundError(key);
    if (expected !== undefined && existing.revision !== expected)
      throw new ConflictError(key, expected, existing);
    return existing;
  }

  #put(key: string, value: string): Entry {
    let entry!: Entry;
    this.#content.record((revision) => {
      entry = { key, value, revision };
      return { type: 'put', entry };
    });
    this.#content.entries.set(key, entry);
    return entry;
  }

  async *watch(prefix: string, from: Revision, { signal, onState }: WatchOptions): AsyncIterable<WatchEvent> {
    onState?.('connected');
    let next = Number(from) - 1;
    while (!signal.aborted) {
      const change = this.#content.changes[next];
      if (change) {
        next++;
        if (keyOf(change).startsWith(prefix)) yield change;
      } else await this.#changed(signal);
    }
  }

  #changed(signal: AbortSignal): Promise<void> {
    const { listeners } = this.#content;
    return new Promise((resolve) => {
      const done = () => {
        listeners.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      listeners.add(done);
      signal.addEventListener('abort', done);
    });
  }

  async close(): Promise<void> {}
}
