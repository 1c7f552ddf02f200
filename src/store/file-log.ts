/**
 * The change log of the file datastore: `.tortie/log/FIRST` holds one JSON line for each change from revision
 * FIRST on. It is what gives the store its revision (that of the last line) and watchers every change in
 * order. A line counts once its newline is there: a writer first puts the line without it (all that can fail
 * for want of space has happened by then), then renames the value, then adds the newline. Segments are
 * bounded and the oldest go; a watcher that still needed one resyncs.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isMissing } from './file-errors.ts';
import { OWN_DIRECTORY } from './file-keys.ts';
import { makeDirectory } from './file-values.ts';

export type LogRecord =
  | { readonly revision: number; readonly type: 'put'; readonly key: string; readonly value: string }
  | { readonly revision: number; readonly type: 'delete'; readonly key: string };

/** A segment is left for a new one beyond this size; about 4,000 changes of a kilobyte are kept in all. */
const SEGMENT_BYTES = 1024 * 1024;
const SEGMENTS_KEPT = 4;

/** How much of a segment's end is read at first when only its last line is wanted. */
const TAIL_BYTES = 4096;

const NEWLINE = 0x0a;

export function logDirectory(root: string): string {
  return join(root, OWN_DIRECTORY, 'log');
}

function segmentPath(root: string, first: number): string {
  return join(logDirectory(root), String(first).padStart(16, '0'));
}

/** First revisions of the segments, ascending; none where nothing was ever written. */
function segments(root: string): number[] {
  try {
    return readdirSync(logDirectory(root))
      .filter((name) => /^\d{16}$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function parseLine(line: string): LogRecord | undefined {
  try {
    const { revision, type, key, value } = JSON.parse(line);
    if (!/^\d{1,15}$/.test(revision) || typeof key !== 'string') return undefined;
    if (type === 'delete') return { revision: Number(revision), type, key };
    return type === 'put' && typeof value === 'string'
      ? { revision: Number(revision), type, key, value }
      : undefined;
  } catch {
    return undefined;
  }
}

function lineOf(record: LogRecord): string {
  return JSON.stringify({ ...record, revision: String(record.revision) });
}

/** Where a segment's complete lines end, the last of them, and what stands after it without a newline. */
interface Tail {
  readonly end: number;
  readonly last: LogRecord | undefined;
  readonly torn: string;
}

function readTail(fd: number): Tail {
  const size = fstatSync(fd).size;
  for (let span = TAIL_BYTES; ; span *= 16) {
    const start = Math.max(0, size - span);
    const bytes = Buffer.alloc(size - start);
    const count = readSync(fd, bytes, 0, bytes.length, start);
    const text = bytes.subarray(0, count);
    const lastNewline = text.lastIndexOf(NEWLINE);
    const before = lastNewline > 0 ? text.lastIndexOf(NEWLINE, lastNewline - 1) : -1;
    if (start > 0 && (lastNewline < 0 || before < 0)) continue;
    return {
      end: start + lastNewline + 1,
      last: lastNewline < 0 ? undefined : parseLine(text.toString('utf8', before + 1, lastNewline)),
      torn: text.toString('utf8', lastNewline + 1),
    };
  }
}

function withSegment<T>(path: string, use: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** The store's revision, without a lock; 0 for a store in which nothing was ever written. */
export function readRevision(root: string): number {
  for (;;) {
    const first = segments(root).at(-1);
    if (first === undefined) return 0;
    const tail = withSegment(segmentPath(root, first), readTail);
    // A segment that went between readdir and open is not the newest any more: look again.
    if (tail) return tail.last?.revision ?? first - 1;
  }
}

/** Reads on from a revision; remembers where in the file it was, so that a change costs only its own bytes. */
export class LogReader {
  readonly #root: string;
  #segment: { first: number; inode: number; offset: number } | undefined;
  #revision: number;

  constructor(root: string, from: number) {
    this.#root = root;
    this.#revision = from;
  }

  /** The revision up to which records were given out. */
  get revision(): number {
    return this.#revision;
  }

  /** Every change since the last call, or `gap` where they are no longer (or not) all in the log. */
  read(): readonly LogRecord[] | 'gap' {
    const records: LogRecord[] = [];
    for (const first of this.#segmentsNeeded()) {
      const part = this.#readSegment(first);
      if (part === 'gap') return 'gap';
      records.push(...part);
    }
    return records;
  }

  /** The segment with the next revision and all after it. */
  #segmentsNeeded(): readonly number[] {
    const all = segments(this.#root);
    const start = all.findLastIndex((first) => first <= this.#revision + 1);
    if (start >= 0) return all.slice(start);
    // Nothing was written yet, or what we need is gone (or the whole store is).
    return all.length === 0 && this.#revision === 0 ? [] : [Number.NaN];
  }

  #readSegment(first: number): readonly LogRecord[] | 'gap' {
    if (Number.isNaN(first)) return 'gap';
    const known = this.#segment?.first === first ? this.#segment : undefined;
    const chunk = withSegment(segmentPath(this.#root, first), (fd) => {
      const { ino, size } = fstatSync(fd);
      const offset = known?.offset ?? 0;
      if (size < offset || (known && known.inode !== ino)) return undefined;
      const bytes = Buffer.alloc(size - offset);
      return { inode: ino, offset, bytes: bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, offset)) };
    });
    if (!chunk) return 'gap';
    const complete = chunk.bytes.lastIndexOf(NEWLINE) + 1;
    this.#segment = { first, inode: chunk.inode, offset: chunk.offset + complete };
    return this.#take(chunk.bytes.toString('utf8', 0, complete), !known);
  }

  /** The records of whole lines that come after what we gave out; a hole between them is a gap. */
  #take(text: string, fromStart: boolean): readonly LogRecord[] | 'gap' {
    const records: LogRecord[] = [];
    const before = this.#revision;
    let reached = 0;
    for (const line of text.split('\n').slice(0, -1)) {
      const record = parseLine(line);
      if (!record) return 'gap';
      reached = record.revision;
      if (record.revision <= this.#revision) {
        if (!fromStart) return 'gap';
        continue;
      }
      if (record.revision !== this.#revision + 1) return 'gap';
      this.#revision = record.revision;
      records.push(record);
    }
    // A log that ends before the revision that we start from is another store's.
    return fromStart && text !== '' && reached < before ? 'gap' : records;
  }
}

/** The log as the holder of the lock sees it: repaired and ready for the next change. */
export class LogWriter {
  readonly #root: string;
  #fd: number;
  #first: number;
  #end: number;
  #revision: number;
  /** The last change, whose index may still be missing if its writer died. */
  readonly last: LogRecord | undefined;
  /** A complete line without its newline: its writer died before, or in a power failure just after, the value was in place. */
  readonly torn: LogRecord | undefined;

  /** `floor`: the least revision to go on from where there is no log (its files were deleted). */
  constructor(root: string, floor: () => number) {
    this.#root = root;
    makeDirectory(logDirectory(root));
    const newest = segments(root).at(-1);
    this.#first = newest ?? floor() + 1;
    this.#fd = openSync(segmentPath(root, this.#first), newest === undefined ? 'w+' : 'r+');
    const tail = readTail(this.#fd);
    this.#end = tail.end;
    this.#revision = tail.last?.revision ?? this.#first - 1;
    this.last = tail.last;
    const torn = parseLine(tail.torn);
    this.torn = torn?.revision === this.#revision + 1 ? torn : undefined;
    if (tail.torn !== '' && !this.torn) ftruncateSync(this.#fd, this.#end);
  }

  get revision(): number {
    return this.#revision;
  }

  /** Puts the line without its newline: readers do not count it yet, and all space it needs is taken. */
  prepare(record: LogRecord): void {
    if (this.#end > SEGMENT_BYTES) this.#nextSegment();
    const line = Buffer.from(lineOf(record));
    try {
      ftruncateSync(this.#fd, this.#end);
      writeSync(this.#fd, line, 0, line.length, this.#end);
      fdatasyncSync(this.#fd);
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** Takes back what `prepare` (or a dead writer) put. */
  abandon(): void {
    ftruncateSync(this.#fd, this.#end);
  }

  /** Adds the newline: from now on the change has happened. */
  commit(): void {
    const { size } = fstatSync(this.#fd);
    writeSync(this.#fd, '\n', size);
    this.#end = size + 1;
    this.#revision += 1;
  }

  /** Changes that have happened already: all at once. */
  append(records: readonly LogRecord[]): void {
    if (this.#end > SEGMENT_BYTES) this.#nextSegment();
    const lines = Buffer.from(records.map((record) => `${lineOf(record)}\n`).join(''));
    try {
      ftruncateSync(this.#fd, this.#end);
      writeSync(this.#fd, lines, 0, lines.length, this.#end);
      fdatasyncSync(this.#fd);
    } catch (error) {
      this.abandon();
      throw error;
    }
    this.#end += lines.length;
    this.#revision += records.length;
  }

  sync(): void {
    fdatasyncSync(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #nextSegment(): void {
    const first = this.#revision + 1;
    const fd = openSync(segmentPath(this.#root, first), 'w+');
    closeSync(this.#fd);
    this.#fd = fd;
    this.#first = first;
    this.#end = 0;
    for (const old of segments(this.#root).slice(0, -SEGMENTS_KEPT)) unlinkSync(segmentPath(this.#root, old));
  }
}
