/**
 * Watching the file datastore. Two things are followed until the signal aborts:
 *   the change log, which every writer appends to: it gives the changes in order, each once;
 *   the directories of the values, for what people do by hand (hand-edits.ts): a value that is not its
 *   index's is adopted under the lock (file-store.ts), which appends it to the log, where all watchers find it.
 * inotify wakes us. A slow look at the log once a second guards against a lost event; where inotify cannot be
 * had (its limits are reached, the directory is not there yet) the same look comes more often.
 */
import { type FSWatcher, statSync, watch } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { DatastoreUnavailableError, type Listing, type WatchEvent, type WatchOptions } from './datastore.ts';
import { LogReader, type LogRecord, logDirectory } from './file-log.ts';
import { toRevision } from './file-transaction.ts';
import { isEmptyOrMissing } from './file-values.ts';
import { type EditedFiles, HandEdits } from './hand-edits.ts';

export interface WatchedFiles extends EditedFiles {
  list(): Promise<Listing>;
}

/** Without any event: look anyway. With inotify a guard only, without it the only way to notice. */
const GUARD_MS = 1_000;
const POLL_MS = 100;

/** What a datastore that cannot be read is given before the next try. */
const RETRY_MS = 500;

export async function* watchFiles(
  files: WatchedFiles,
  from: number,
  { signal, onState }: WatchOptions,
): AsyncGenerator<WatchEvent> {
  const wake = new Wake(files.clock);
  const log = new LogWatch(logDirectory(files.root), wake.ring);
  const edits = new HandEdits(files, wake.ring);
  let reader = new LogReader(files.root, from);
  let failing = false;
  signal.addEventListener('abort', wake.ring, { once: true });
  try {
    while (!signal.aborted) {
      const events: WatchEvent[] = [];
      try {
        if (reader.revision > 0) refuseGone(files.root);
        log.follow();
        const changes = reader.read();
        if (changes === 'gap') {
          const listing = await files.list();
          reader = new LogReader(files.root, Number(listing.revision));
          events.push({ type: 'resync', listing });
        } else {
          events.push(...changes.filter((change) => change.key.startsWith(files.prefix)).map(eventOf));
        }
        await edits.tend();
        if (failing) onState?.('connected');
        failing = false;
      } catch (error) {
        if (!failing) onState?.('disconnected', error instanceof Error ? error.message : String(error));
        failing = true;
      }
      for (const event of events) {
        if (signal.aborted) return;
        yield event;
      }
      const idleMs = failing ? RETRY_MS : log.watching ? GUARD_MS : POLL_MS;
      if (!signal.aborted) await wake.wait(Math.min(idleMs, failing ? idleMs : edits.waitMs()));
    }
  } finally {
    signal.removeEventListener('abort', wake.ring);
    log.close();
    edits.close();
  }
}

/**
 * A directory that was moved away, or whose file system was unmounted, does not say that every object was deleted.
 * @throws DatastoreUnavailableError
 */
function refuseGone(root: string): void {
  if (!isEmptyOrMissing(root)) return;
  throw new DatastoreUnavailableError(
    `the datastore file://${root} is gone: its directory is missing or empty`,
    true,
    {
      hint: `Put it back, or mount it: what is there then is followed again.`,
    },
  );
}

function eventOf(change: LogRecord): WatchEvent {
  const revision = toRevision(change.revision);
  if (change.type === 'delete') return { type: 'delete', key: change.key, revision };
  return { type: 'put', entry: { key: change.key, value: change.value, revision } };
}

/** Rings when a writer appends to the log. */
class LogWatch {
  readonly #directory: string;
  readonly #ring: () => void;
  #watched: { watcher: FSWatcher; inode: bigint } | undefined;

  constructor(directory: string, ring: () => void) {
    this.#directory = directory;
    this.#ring = ring;
  }

  get watching(): boolean {
    return this.#watched !== undefined;
  }

  /** The directory may appear, go and be another one of the same name. */
  follow(): void {
    const inode = statSync(this.#directory, { bigint: true, throwIfNoEntry: false })?.ino;
    if (inode === this.#watched?.inode) return;
    this.close();
    if (inode === undefined) return;
    try {
      const watcher = watch(this.#directory, this.#ring);
      watcher.on('error', () => this.close());
      this.#watched = { watcher, inode };
    } catch {
      // No inotify watch left: polled instead.
    }
  }

  close(): void {
    this.#watched?.watcher.close();
    this.#watched = undefined;
  }
}

/** Lets the loop sleep until something rings; a ring while nobody sleeps is not lost. */
class Wake {
  readonly #clock: Clock;
  #sleeping: AbortController | undefined;
  #rung = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  readonly ring = (): void => {
    this.#rung = true;
    this.#sleeping?.abort();
  };

  async wait(ms: number): Promise<void> {
    if (!this.#rung) {
      this.#sleeping = new AbortController();
      await this.#clock.sleep(ms, this.#sleeping.signal).catch(() => {});
      this.#sleeping = undefined;
    }
    this.#rung = false;
  }
}
