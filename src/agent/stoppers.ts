/** What stops the parts of an agent that were started: the newest first, and all of them, also where one fails. */
import type { Logger } from '../base/logger.ts';

export class Stoppers {
  readonly #stops: (() => Promise<void> | void)[] = [];

  add(stop: () => Promise<void> | void): void {
    this.#stops.push(stop);
  }

  /** `whole`: what they are parts of. */
  async stop(whole: string, logger: Logger): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) {
      try {
        await stop();
      } catch (error) {
        logger.error({ error }, `stopping a part of the ${whole} failed`);
      }
    }
  }
}
