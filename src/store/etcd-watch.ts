/**
 * Watching etcd. One stream at a time, to one member, from the revision after the last event that came; when it
 * breaks (the member died, lost its leader, vanished) the next member is asked from there. Where those revisions
 * were compacted away, or the cluster is another one or went back in time (restored from a backup), everything
 * is listed anew and the watch goes on from the listing: a resync.
 */
import type { IEvent, IWatchResponse } from 'etcd3';
import type { Clock } from '../base/clock.ts';
import type { Listing, Revision, WatchEvent, WatchOptions } from './datastore.ts';
import { ATTEMPT_MS, type WatchStream } from './etcd-client.ts';
import { failureOf } from './etcd-failure.ts';
import type { EtcdMembers } from './etcd-members.ts';

export interface WatchedPrefix {
  readonly prefix: string;
  readonly members: EtcdMembers;
  readonly clock: Clock;
  /** @throws EtcdFailure */
  list(): Promise<Listing>;
}

/** Between attempts to watch, each at the next member. */
const PAUSE_MS = { first: 20, most: 500 };

/** What must be known to go on: from where, and in which cluster. */
interface Position {
  next: bigint;
  cluster: string | undefined;
}

/** The history from our position on is not to be had: list anew. */
class HistoryGone extends Error {}

export async function* watchEtcd(
  watched: WatchedPrefix,
  from: Revision,
  { signal, onState }: WatchOptions,
): AsyncGenerator<WatchEvent> {
  const position: Position = { next: BigInt(from) + 1n, cluster: undefined };
  let resync = false;
  let connected = true;
  let pauseMs = PAUSE_MS.first;
  while (!signal.aborted) {
    try {
      if (resync) {
        const listing = await watched.list();
        position.next = BigInt(listing.revision) + 1n;
        position.cluster = undefined;
        resync = false;
        if (signal.aborted) return;
        yield { type: 'resync', listing };
      }
      for await (const event of watchOnce(watched, position, signal)) {
        if (!connected) onState?.('connected');
        connected = true;
        pauseMs = PAUSE_MS.first;
        if (event !== 'created') yield event;
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof HistoryGone) {
        resync = true;
        continue;
      }
      if (connected) onState?.('disconnected', failureOf(error).details);
      connected = false;
      await watched.clock.sleep(pauseMs, signal).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, PAUSE_MS.most);
    }
  }
}

/** Events of one stream, until it breaks. `position` moves with what is given out. */
async function* watchOnce(
  watched: WatchedPrefix,
  position: Position,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent | 'created'> {
  const { stream, next } = await watched.members.openWatch();
  const responses = new Responses(stream);
  const onAbort = () => responses.end();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const key = Buffer.from(watched.prefix);
    const range_end = Buffer.from(key);
    range_end[range_end.length - 1]! += 1;
    stream.write({ create_request: { key, range_end, start_revision: position.next.toString() } });
    const created = await responses.next(watched.clock, ATTEMPT_MS);
    if (!created) return;
    refuseCanceled(created);
    await refuseAnotherHistory(watched, position, created);
    yield 'created';
    for (;;) {
      const response = await responses.next();
      if (!response) return;
      refuseCanceled(response);
      for (const event of response.events) yield eventOf(event);
      // Only now: a response holds all changes of its revisions, and a break within it gives them again.
      const last = response.events.at(-1);
      if (last) position.next = BigInt(last.kv.mod_revision) + 1n;
    }
  } catch (error) {
    if (!(error instanceof HistoryGone)) next();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.cancel();
  }
}

/** @throws HistoryGone, EtcdFailure */
function refuseCanceled(response: IWatchResponse): void {
  if (BigInt(response.compact_revision || 0) > 0n) throw new HistoryGone();
  if (response.canceled) throw failureOf(new Error(response.cancel_reason || 'the watch was canceled'));
}

/** A watch from a revision that the cluster never reached would wait in silence. @throws HistoryGone */
async function refuseAnotherHistory(
  watched: WatchedPrefix,
  position: Position,
  { header }: IWatchResponse,
): Promise<void> {
  const cluster = position.cluster ?? header.cluster_id;
  if (header.cluster_id !== cluster) throw new HistoryGone();
  if (BigInt(header.revision) < position.next - 1n) {
    // The member may only lag behind: a read is answered by what the majority has.
    const read = await watched.members.read({ key: Buffer.from(watched.prefix), count_only: true });
    if (BigInt(read.header.revision) < position.next - 1n) throw new HistoryGone();
  }
  position.cluster = cluster;
}

function eventOf({ type, kv }: IEvent): WatchEvent {
  const key = kv.key.toString('utf8');
  const revision = kv.mod_revision as Revision;
  if (type === 'Delete') return { type: 'delete', key, revision };
  return { type: 'put', entry: { key, value: kv.value.toString('utf8'), revision } };
}

/** The stream's responses, one at a time; undefined once nobody wants more. */
class Responses {
  readonly #queue: IWatchResponse[] = [];
  #failure: Error | undefined;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(stream: WatchStream) {
    stream.on('data', (response) => {
      this.#queue.push(response);
      this.#wake?.();
    });
    stream.on('error', (error) => this.#fail(error));
    stream.on('end', () => this.#fail(new Error('14 UNAVAILABLE: etcd ended the watch')));
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  /** @throws EtcdFailure where the stream broke, or where nothing came in time */
  async next(clock?: Clock, deadlineMs?: number): Promise<IWatchResponse | undefined> {
    const waiting = new AbortController();
    try {
      if (clock && deadlineMs !== undefined)
        clock
          .sleep(deadlineMs, waiting.signal)
          .then(() => this.#fail(new Error('4 DEADLINE_EXCEEDED: the watch was not begun in time')))
          .catch(() => {});
      for (;;) {
        if (this.#ended) return undefined;
        const response = this.#queue.shift();
        if (response) return response;
        if (this.#failure) throw failureOf(this.#failure);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      waiting.abort();
    }
  }
}
