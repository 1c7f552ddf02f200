/**
 * Hears when a descriptor can be read, of a kind that Node cannot wait for (netlink): one ppoll for all of them on one
 * thread of libuv's pool, so nothing is polled in between and the event loop stays free. Each wait ends after a second
 * at the latest, so that a process which ends without `stop` is not held up by it for longer; with nothing to watch
 * there is no wait at all.
 */
import { Arena } from './arena.ts';
import { libc, systemCalls } from './libc.ts';
import { openWakeup, raiseWakeup } from './waiter.ts';

const POLLIN = 1;
const POLLFD_BYTES = 8;
const POLLFD_OFF_EVENTS = 4;
const POLLFD_OFF_REVENTS = 6;
const LONGEST_WAIT_MS = 1000;
/** Descriptors in one ppoll; a process has a handful. */
const MOST_WATCHES = 255;

type AsyncPpoll = {
  async(
    fds: number,
    count: number,
    timeout: number,
    signals: number,
    done: (error: Error | null, ready: number) => void,
  ): void;
};

interface Watch {
  readonly fd: number;
  readonly onReady: () => void;
  readonly restMs: number;
  /** Not looked at before this. */
  restUntilMs: number;
}

class Readiness {
  readonly #ppoll = libc().library.func(
    'int ppoll(uintptr_t fds, unsigned long count, uintptr_t timeout, uintptr_t signals)',
  ) as unknown as AsyncPpoll;
  readonly #arena = new Arena((MOST_WATCHES + 1) * POLLFD_BYTES + 64);
  readonly #scratch = this.#arena.allocate(8, 8);
  readonly #timeout = this.#arena.allocate(16, 8);
  readonly #polls = this.#arena.allocate((MOST_WATCHES + 1) * POLLFD_BYTES, 8);
  readonly #wakeup = openWakeup();
  readonly #watches = new Set<Watch>();
  /** What the wait that is under way looks at; none where there is no wait. */
  #asked: readonly Watch[] | null = null;
  /** Those who stopped and wait for the end of a wait that may still look at their descriptor. */
  #stopped: (() => void)[] = [];

  add(watch: Watch): void {
    if (this.#watches.size === MOST_WATCHES)
      throw new Error(`bug: more than ${MOST_WATCHES} descriptors are watched`);
    this.#watches.add(watch);
    if (this.#asked === null) this.#wait();
    else this.#wake();
  }

  /** Resolves when nothing looks at its descriptor any more. */
  remove(watch: Watch): Promise<void> {
    this.#watches.delete(watch);
    if (this.#asked === null) return Promise.resolve();
    this.#wake();
    return new Promise((resolve) => this.#stopped.push(resolve));
  }

  #wake(): void {
    raiseWakeup(this.#wakeup, this.#arena, this.#scratch);
  }

  #wait(): void {
    const { view, base } = this.#arena;
    const now = performance.now();
    const asked = [...this.#watches].filter(({ restUntilMs }) => restUntilMs <= now);
    const resting = [...this.#watches].filter(({ restUntilMs }) => restUntilMs > now);
    const waitMs = Math.min(
      LONGEST_WAIT_MS,
      ...resting.map(({ restUntilMs }) => Math.ceil(restUntilMs - now)),
    );
    [this.#wakeup, ...asked.map(({ fd }) => fd)].forEach((fd, i) => {
      view.setInt32(this.#polls + i * POLLFD_BYTES, fd, true);
      view.setInt16(this.#polls + i * POLLFD_BYTES + POLLFD_OFF_EVENTS, POLLIN, true);
    });
    view.setBigInt64(this.#timeout, BigInt(Math.floor(waitMs / 1000)), true);
    view.setBigInt64(this.#timeout + 8, BigInt((waitMs % 1000) * 1e6), true);
    this.#asked = asked;
    this.#ppoll.async(base + this.#polls, asked.length + 1, base + this.#timeout, 0, (_error, ready) => {
      if (ready > 0) this.#hear(asked);
      this.#asked = null;
      for (const resolve of this.#stopped.splice(0)) resolve();
      if (this.#watches.size > 0) this.#wait();
    });
  }

  #hear(asked: readonly Watch[]): void {
    const { view, base } = this.#arena;
    if (view.getInt16(this.#polls + POLLFD_OFF_REVENTS, true) !== 0)
      systemCalls().read(this.#wakeup, base + this.#scratch, 8);
    asked.forEach((watch, i) => {
      const at = this.#polls + (i + 1) * POLLFD_BYTES;
      if (view.getInt16(at + POLLFD_OFF_REVENTS, true) === 0 || !this.#watches.has(watch)) return;
      watch.restUntilMs = performance.now() + watch.restMs;
      watch.onReady();
    });
  }
}

let readiness: Readiness | undefined;

/**
 * Calls `onReady` until stopped; it must read until nothing is left. After each call the descriptor is left alone for
 * `restMs`: who need not know at once is so asked together what comes together.
 */
export function watchReadable(fd: number, onReady: () => void, restMs = 0): { stop(): Promise<void> } {
  readiness ??= new Readiness();
  const all = readiness;
  const watch: Watch = { fd, onReady, restMs, restUntilMs: 0 };
  all.add(watch);
  let stopped: Promise<void> | undefined;
  return {
    stop() {
      stopped ??= all.remove(watch);
      return stopped;
    },
  };
}
