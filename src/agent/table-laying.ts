/**
 * Keeps the data plane's table in line with the kernel's routes: one change at a time, and what is heard while
 * one is being laid is gathered into the next.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { describeOperation, type RouteForwarding } from '../control/route-forwarding.ts';
import type { ForwardingSink } from '../fib/forwarding-config.ts';
import type { TunnelStatus } from './status.ts';

export interface TableLayingParts {
  readonly forwarding: RouteForwarding;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class TableLaying {
  readonly #parts: TableLayingParts;
  #sink: ForwardingSink | undefined;
  #revision = 0;
  #laying = false;
  #changed = false;
  #waiting: (() => void)[] = [];
  #lastChange: TunnelStatus['lastChange'] = null;

  constructor(parts: TableLayingParts) {
    this.#parts = parts;
  }

  get lastChange(): TunnelStatus['lastChange'] {
    return this.#lastChange;
  }

  /** Gives a data plane that has just started the whole table. It gets no change before `begin`. */
  async replace(sink: ForwardingSink): Promise<void> {
    this.#parts.forwarding.drain();
    await sink.replace(this.#parts.forwarding.config(++this.#revision));
  }

  /** From now on this data plane, which has the whole table, is kept in line. */
  begin(sink: ForwardingSink): void {
    this.#sink = sink;
    this.lay();
  }

  end(): void {
    this.#sink = undefined;
  }

  /** To be called when the routes have changed. */
  lay(): void {
    this.#changed = true;
    if (this.#laying || !this.#sink) return;
    this.#laying = true;
    void this.#layAll()
      .catch((error: Error) => {
        // A data plane that ended is started again with a snapshot; while it runs, a change cannot fail.
        this.#parts.logger.error({ error }, 'a change could not be laid');
      })
      .finally(() => {
        this.#laying = false;
        if (this.#changed && this.#sink) this.lay();
      });
  }

  /** Resolves when every route known now is in force; at once where there is no data plane. */
  laid(): Promise<void> {
    if (!this.#laying) return Promise.resolve();
    this.#changed = true;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async #layAll(): Promise<void> {
    while (this.#changed) {
      this.#changed = false;
      const waiting = this.#waiting.splice(0);
      try {
        await this.#layOnce();
      } finally {
        for (const resolve of waiting) resolve();
      }
    }
  }

  async #layOnce(): Promise<void> {
    const sink = this.#sink;
    if (!sink) return;
    const { forwarding, clock } = this.#parts;
    const operations = forwarding.drain();
    if (operations.length === 0) return;
    const revision = ++this.#revision;
    if ((await sink.change({ revision, operations })) === 'gap')
      await sink.replace(forwarding.config(revision));
    const what = operations.map(describeOperation).findLast((text) => text !== undefined);
    if (what === undefined) return;
    const at = new Date(clock.wallMs()).toISOString();
    this.#lastChange = { at, what, operations: operations.length };
  }
}
