/** Watches a datastore in the background and keeps every event, for tests that wait for some. */
import { poll, systemClock } from '../../src/base/clock.ts';
import type { Datastore, Revision, WatchEvent } from '../../src/store/datastore.ts';

const DEADLINE_MS = 20_000;

export class WatchRecorder {
  readonly events: WatchEvent[] = [];
  readonly states: string[] = [];
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;
  #failure: unknown;

  constructor(store: Datastore, prefix: string, from: Revision) {
    this.#ended = this.#record(store, prefix, from).catch((error: unknown) => {
      this.#failure = error ?? new Error('the watch failed');
    });
  }

  async #record(store: Datastore, prefix: string, from: Revision): Promise<void> {
    const options = {
      signal: this.#abort.signal,
      onState: (state: string, why?: string) => this.states.push(why ? `${state}: ${why}` : state),
    };
    for await (const event of store.watch(prefix, from, options)) this.events.push(event);
  }

  /** Fails with what was seen so far when the condition does not come true. */
  async until(
    condition: (events: readonly WatchEvent[]) => boolean,
    deadlineMs = DEADLINE_MS,
  ): Promise<void> {
    const happened = await poll(systemClock, deadlineMs, 5, async () => {
      if (this.#failure) throw this.#failure;
      return condition(this.events) || undefined;
    });
    if (!happened)
      throw new Error(`not seen in ${deadlineMs} ms; events: ${JSON.stringify(this.events).slice(0, 3_000)}`);
  }

  async untilState(
    condition: (states: readonly string[]) => boolean,
    deadlineMs = DEADLINE_MS,
  ): Promise<void> {
    const happened = await poll(systemClock, deadlineMs, 5, async () => condition(this.states) || undefined);
    if (!happened) throw new Error(`not seen in ${deadlineMs} ms; states: ${this.states.join(', ')}`);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
    if (this.#failure) throw this.#failure;
  }
}

/** Runs again for as long as somebody else was quicker. */
export async function retryOnConflict<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_STORE_CONFLICT') throw error;
    }
  }
}
