/**
 * Notices what people do to the values by hand. One inotify watch for each directory below the prefix (Node's
 * own recursive watching misses what happens in a directory between its making and its being watched: here a
 * new directory is watched first and read then). An event names a file; a little later its value is held
 * against its index, and what was edited is handed to `settle`.
 */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { indexPath, isKeyName, valuePath } from './file-keys.ts';
import { directoriesBelow, isSettled, keysBelow, readSeen } from './file-values.ts';

export interface EditedFiles {
  readonly root: string;
  readonly prefix: string;
  readonly clock: Clock;
  /** Gives hand-edited values their revisions. */
  settle(keys: readonly string[]): Promise<void>;
}

/** An editor's save is several events, and a writer of ours is done with its index by then. */
const DELAY_MS = 20;

/** Where inotify's limits are reached: how often all values are looked at. */
const SCAN_MS = 5_000;

/** When what could not be given a revision is tried again. */
const RETRY_MS = 1_000;

/** A scan lets others run after this many keys. */
const KEYS_AT_A_TIME = 500;

/** The coarsest tick of a kernel's file times (HZ=100), with some margin. */
const TICK_NS = 20_000_000n;

interface Watched {
  readonly watcher: FSWatcher;
  readonly inode: bigint;
}

export class HandEdits {
  readonly #files: EditedFiles;
  readonly #onEvent: () => void;
  readonly #watched = new Map<string, Watched>();
  /** Paths with an event, below the root and without it: `/calico/ipam`. */
  readonly #touched = new Set<string>();
  /** When the touched paths are looked at. */
  #dueMs = Number.POSITIVE_INFINITY;
  #complete = true;

  constructor(files: EditedFiles, onEvent: () => void) {
    this.#files = files;
    this.#onEvent = onEvent;
  }

  /** How long until there is something to look at. */
  waitMs(): number {
    return Math.max(0, this.#dueMs - this.#files.clock.monotonicMs());
  }

  /** Watches what is not watched yet and settles what was edited; to be called at every event and now and then. */
  async tend(): Promise<void> {
    this.#followTop();
    if (this.waitMs() > 0) return;
    const touched = [...this.#touched];
    this.#touched.clear();
    this.#dueMs = Number.POSITIVE_INFINITY;
    const edited = new Set<string>();
    for (const path of touched) await this.#lookAt(path, edited);
    if (!this.#complete) this.#touch(this.#top, SCAN_MS);
    if (edited.size > 0) await this.#settle([...edited]);
  }

  close(): void {
    for (const { watcher } of this.#watched.values()) watcher.close();
    this.#watched.clear();
  }

  async #settle(edited: readonly string[]): Promise<void> {
    try {
      await this.#files.settle(edited);
    } catch {
      // The lock is held for long, or we may not write here: the log tells us when somebody else has done it.
      for (const key of edited) this.#touch(key, RETRY_MS);
    }
  }

  /** The prefix without its last slash; empty for the whole store. */
  get #top(): string {
    return this.#files.prefix.slice(0, -1);
  }

  /** The prefix's directory, or while it is not there the nearest one above that is. */
  #followTop(): void {
    if (!this.#complete) {
      // inotify was exhausted: tried again when the next scan is due, not at every event.
      if (this.waitMs() > 0) return;
      this.#complete = true;
    }
    const top = valuePath(this.#files.root, this.#top);
    let directory = top;
    while (inodeOf(directory) === undefined && directory !== '/') directory = dirname(directory);
    if (this.#isWatched(directory)) return;
    this.close();
    this.#watch(directory);
    this.#touch(this.#top, 0);
  }

  #isWatched(directory: string): boolean {
    const inode = inodeOf(directory);
    return inode !== undefined && this.#watched.get(directory)?.inode === inode;
  }

  #watch(directory: string): void {
    if (this.#isWatched(directory)) return;
    this.#watched.get(directory)?.watcher.close();
    this.#watched.delete(directory);
    const inode = inodeOf(directory);
    if (inode === undefined) return;
    try {
      const watcher = watch(directory, (_event, name) => this.#heard(directory, name));
      watcher.on('error', () => this.#heard(directory, null));
      this.#watched.set(directory, { watcher, inode });
    } catch {
      // No inotify watch left (ENOSPC, EMFILE) or the directory is gone again: scanned instead.
      this.#complete = false;
    }
  }

  #heard(directory: string, name: string | null): void {
    if (name !== null && !isKeyName(name)) return;
    const path = name === null ? directory : join(directory, name);
    const top = valuePath(this.#files.root, this.#top);
    if (path.startsWith(`${top}/`)) this.#touch(path.slice(top.length - this.#top.length), DELAY_MS);
    else if (top === path || top.startsWith(`${path}/`)) this.#touch(this.#top, DELAY_MS);
    else return; // above the top there is only the top's own path to wait for
    this.#onEvent();
  }

  #touch(path: string, delayMs: number): void {
    this.#touched.add(path);
    this.#dueMs = Math.min(this.#dueMs, this.#files.clock.monotonicMs() + delayMs);
  }

  /** Watches the directories at and below the path, drops those that are gone, and adds the edited keys. */
  async #lookAt(path: string, edited: Set<string>): Promise<void> {
    const { root } = this.#files;
    const absolute = valuePath(root, path);
    if (path !== '' && isEdited(root, path)) edited.add(path);
    if (statSync(absolute, { throwIfNoEntry: false })?.isFile()) return;
    if (this.#watched.has(absolute)) this.#dropGone(absolute);
    for (const directory of directoriesBelow(absolute)) this.#watch(directory);
    let count = 0;
    for (const key of keysBelow(root, `${path}/`)) {
      if (mayBeEdited(root, key) && isEdited(root, key)) edited.add(key);
      count += 1;
      if (count % KEYS_AT_A_TIME === 0) await new Promise(setImmediate);
    }
  }

  #dropGone(top: string): void {
    for (const [directory, { watcher }] of this.#watched) {
      if (directory !== top && !directory.startsWith(`${top}/`)) continue;
      if (this.#isWatched(directory)) continue;
      watcher.close();
      this.#watched.delete(directory);
    }
  }
}

function inodeOf(path: string): bigint | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat?.isDirectory() ? stat.ino : undefined;
}

/**
 * A writer of ours renames the value first and its index then, and a rename changes the time of the inode:
 * a value clearly older than its index was not edited since, and need not be read. Times grow in ticks, so an
 * edit right after a write may have its index's time.
 */
function mayBeEdited(root: string, key: string): boolean {
  const value = statSync(valuePath(root, key), { bigint: true, throwIfNoEntry: false });
  const index = statSync(indexPath(root, key), { bigint: true, throwIfNoEntry: false });
  return !value || !index || value.ctimeNs + TICK_NS > index.ctimeNs;
}

function isEdited(root: string, key: string): boolean {
  return !isSettled(readSeen(root, key));
}
