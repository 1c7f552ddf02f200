/**
 * What one holder of the lock does. Everything here is synchronous, so that within a process, too, nobody
 * comes between. Opening repairs what a dead writer left; the order of the steps of a change is such that
 * a kill -9 after any of them leaves either nothing, or a value that the next one to look adopts as it
 * would a hand-edited one, or a change that lacks only its index (`finish`).
 */
import { dirname, join } from 'node:path';
import type { Entry, Revision } from './datastore.ts';
import { indexPath, OWN_DIRECTORY, valuePath } from './file-keys.ts';
import { LogWriter } from './file-log.ts';
import {
  indexText,
  isSettled,
  keysBelow,
  makeDirectory,
  prepareFile,
  readSeen,
  removeFile,
  replaceFile,
  type Seen,
  sha256,
  syncDirectory,
} from './file-values.ts';

export function toRevision(revision: number): Revision {
  return String(revision) as Revision;
}

export class FileTransaction {
  readonly #root: string;
  readonly #log: LogWriter;

  /** The caller holds the lock from before this until after `close`. */
  constructor(root: string) {
    this.#root = root;
    makeDirectory(join(root, OWN_DIRECTORY, 'keys'));
    this.#log = new LogWriter(root, () => highestIndexed(root));
    this.#finish();
  }

  /** What the key holds. A value that is not its index's, or that is gone, gets its new revision here. */
  look(key: string): Entry | undefined {
    return this.lookAtAll([key]).get(key);
  }

  /** The same for many keys at the cost of one. */
  lookAtAll(keys: readonly string[]): Map<string, Entry | undefined> {
    const all = keys.map((key) => readSeen(this.#root, key));
    const adopted = this.#adopt(all.filter((seen) => !isSettled(seen)));
    return new Map(
      all.map(({ key, value, index }) => {
        const revision = adopted.get(key) ?? index?.revision;
        if (value === undefined || revision === undefined) return [key, undefined];
        return [key, { key, value, revision: toRevision(revision) }];
      }),
    );
  }

  put(key: string, value: string): Entry {
    const revision = this.#log.revision + 1;
    const hash = sha256(value);
    const path = valuePath(this.#root, key);
    const preparedValue = prepareFile(this.#root, 'value', value);
    const preparedIndex = prepareFile(this.#root, 'index', indexText(revision, hash));
    // Before the change counts, so that all that needs space has happened by then.
    makeDirectory(dirname(indexPath(this.#root, key)));
    this.#log.prepare({ revision, type: 'put', key, value });
    try {
      replaceFile(preparedValue, path);
    } catch (error) {
      this.#log.abandon();
      throw error;
    }
    this.#log.commit();
    replaceFile(preparedIndex, indexPath(this.#root, key));
    syncDirectory(dirname(path));
    this.#log.sync();
    return { key, value, revision: toRevision(revision) };
  }

  remove(key: string): void {
    const path = valuePath(this.#root, key);
    this.#log.prepare({ revision: this.#log.revision + 1, type: 'delete', key });
    try {
      removeFile(path, this.#root);
    } catch (error) {
      this.#log.abandon();
      throw error;
    }
    this.#log.commit();
    this.#removeIndex(key);
    syncDirectory(dirname(path));
    this.#log.sync();
  }

  close(): void {
    this.#log.close();
  }

  /** The last change of the log got its newline, but perhaps its writer died before the index. */
  #finish(): void {
    const { torn, last } = this.#log;
    if (torn) {
      // Its index without its newline is what a power failure can leave, since renames may outlive writes.
      const { index, value } = readSeen(this.#root, torn.key);
      const happened =
        torn.type === 'put' ? index?.revision === torn.revision : value === undefined && index === undefined;
      if (happened) this.#log.commit();
      else this.#log.abandon();
    }
    if (last?.type === 'put') {
      const { index } = readSeen(this.#root, last.key);
      if ((index?.revision ?? 0) < last.revision)
        this.#writeIndex(last.key, last.revision, sha256(last.value));
    } else if (last) {
      const { index } = readSeen(this.#root, last.key);
      if (index && index.revision < last.revision) this.#removeIndex(last.key);
    }
  }

  /**
   * New revisions for values that somebody else put in place. Should their indexes not reach the disk, or
   * not whole, then they are adopted once more: no need to wait for each.
   */
  #adopt(edited: readonly Seen[]): Map<string, number> {
    if (edited.length === 0) return new Map();
    const first = this.#log.revision + 1;
    this.#log.append(
      edited.map(({ key, value }, i) =>
        value === undefined
          ? { revision: first + i, type: 'delete', key }
          : { revision: first + i, type: 'put', key, value },
      ),
    );
    for (const [i, seen] of edited.entries()) {
      if (seen.sha256 === undefined) this.#removeIndex(seen.key);
      else this.#writeIndex(seen.key, first + i, seen.sha256);
    }
    return new Map(edited.map((seen, i) => [seen.key, first + i]));
  }

  #writeIndex(key: string, revision: number, hash: string): void {
    const prepared = prepareFile(this.#root, 'index', indexText(revision, hash), false);
    replaceFile(prepared, indexPath(this.#root, key), false);
  }

  #removeIndex(key: string): void {
    removeFile(indexPath(this.#root, key), join(this.#root, OWN_DIRECTORY, 'keys'));
  }
}

/** For a store whose log was deleted: its revisions must not start again from 1. */
function highestIndexed(root: string): number {
  let highest = 0;
  for (const key of keysBelow(root, '/')) {
    highest = Math.max(highest, readSeen(root, key).index?.revision ?? 0);
  }
  return highest;
}
