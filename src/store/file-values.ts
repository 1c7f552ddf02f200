/**
 * The files of the values and of the index beside them: `.tortie/keys/KEY` holds {revision, sha256} of the
 * value that a writer of ours put there. Where the hash is not the value's, somebody edited the value by
 * hand, or a writer is (or died) between its two renames.
 */
import { hash } from 'node:crypto';
import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf, isMissing } from './file-errors.ts';
import { indexPath, isKeyName, OWN_DIRECTORY, valuePath } from './file-keys.ts';

export interface IndexEntry {
  readonly revision: number;
  readonly sha256: string;
}

/** What the two files of a key hold. */
export interface Seen {
  readonly key: string;
  readonly value: string | undefined;
  readonly sha256: string | undefined;
  readonly index: IndexEntry | undefined;
}

/** Value and index belong together (or neither is there): this is a state that a writer left on purpose. */
export function isSettled(seen: Seen): boolean {
  return seen.sha256 === seen.index?.sha256;
}

export function sha256(data: string | Uint8Array): string {
  return hash('sha256', data);
}

/** Reads into one buffer that grows: most values are a kilobyte, and a listing reads thousands. */
let scratch = Buffer.allocUnsafe(64 * 1024);

/**
 * The file's bytes, valid until the next call; undefined where there is no such regular file. A symbolic
 * link is not followed, and nobody waits for a FIFO's writer.
 */
function readBytes(path: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isMissing(error) || errnoOf(error) === 'ELOOP' || errnoOf(error) === 'ENXIO') return undefined;
    throw error;
  }
  try {
    let length = 0;
    for (;;) {
      const count = readSync(fd, scratch, length, scratch.length - length, null);
      length += count;
      // A regular file gives less than was asked for only at its end.
      if (length < scratch.length) return scratch.subarray(0, length);
      scratch = Buffer.concat([scratch, Buffer.allocUnsafe(scratch.length)]);
    }
  } catch (error) {
    if (errnoOf(error) === 'EISDIR') return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}

function parseIndex(bytes: Buffer | undefined): IndexEntry | undefined {
  if (!bytes) return undefined;
  const match = /^\{"revision":"(\d{1,15})","sha256":"([0-9a-f]{64})"\}\n$/.exec(bytes.toString('latin1'));
  return match ? { revision: Number(match[1]), sha256: match[2]! } : undefined;
}

export function readSeen(root: string, key: string): Seen {
  const index = parseIndex(readBytes(indexPath(root, key)));
  const bytes = readBytes(valuePath(root, key));
  if (!bytes) return { key, value: undefined, sha256: undefined, index };
  return { key, value: bytes.toString('utf8'), sha256: sha256(bytes), index };
}

/** Every key below `prefix` that has a value or an index, in no particular order. */
export function* keysBelow(root: string, prefix: string): Generator<string> {
  const names = new Map<string, 'file' | 'directory' | 'both'>();
  for (const directory of [valuePath(root, prefix), indexPath(root, prefix)]) {
    for (const entry of directoryEntries(directory)) {
      const type = entry.isDirectory() ? 'directory' : entry.isFile() ? 'file' : undefined;
      if (!type || !isKeyName(entry.name)) continue;
      const known = names.get(entry.name);
      names.set(entry.name, known && known !== type ? 'both' : type);
    }
  }
  for (const [name, type] of names) {
    if (type !== 'directory') yield `${prefix}${name}`;
    if (type !== 'file') yield* keysBelow(root, `${prefix}${name}/`);
  }
}

/**
 * The directory itself and all below it that can hold keys. Each is given out before it is read, so that
 * whoever watches it at once hears of everything that this walk does not see.
 */
export function* directoriesBelow(directory: string): Generator<string> {
  yield directory;
  for (const entry of directoryEntries(directory)) {
    if (entry.isDirectory() && isKeyName(entry.name)) yield* directoriesBelow(join(directory, entry.name));
  }
}

export function isEmptyOrMissing(directory: string): boolean {
  return directoryEntries(directory).length === 0;
}

function directoryEntries(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Writes of the one process that holds the lock; the temporary files are its own. */
export function prepareFile(root: string, name: 'value' | 'index', text: string, flush = true): string {
  const path = join(root, OWN_DIRECTORY, `${name}.new`);
  writeFileSync(path, text, { flush });
  return path;
}

export function indexText(revision: number, hash: string): string {
  return `{"revision":"${revision}","sha256":"${hash}"}\n`;
}

/**
 * Makes a directory and those above it that are missing, and (`flush`) their entries durable. Not mkdir's own recursive
 * mode: on Node 20 that never ends where making the parent helps nothing, as below /proc.
 */
export function makeDirectory(directory: string, flush = true): void {
  try {
    makeOneDirectory(directory, flush);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || directory === dirname(directory)) throw error;
    makeDirectory(dirname(directory), flush);
    makeOneDirectory(directory, flush);
  }
}

/** Two processes may begin a store at the same time: that it is there already is as good. */
function makeOneDirectory(directory: string, flush: boolean): void {
  try {
    mkdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST' && statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
    throw error;
  }
  if (flush) syncDirectory(dirname(directory));
}

/** Puts a prepared file in place of `path`, making its directories. */
export function replaceFile(prepared: string, path: string, flush = true): void {
  try {
    renameSync(prepared, path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    makeDirectory(dirname(path), flush);
    renameSync(prepared, path);
  }
}

/** Removes a file and the directories that are empty without it, up to `root`. */
export function removeFile(path: string, root: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  for (let directory = dirname(path); directory.length > root.length; directory = dirname(directory)) {
    try {
      rmdirSync(directory);
    } catch {
      return;
    }
  }
}

/** Makes renames in a directory durable; a directory that was removed since needs none. */
export function syncDirectory(directory: string): void {
  let fd: number;
  try {
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
