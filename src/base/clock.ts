/** Time is a parameter everywhere except in the composition roots, so that tests can own it. */
export interface Clock {
  /** Milliseconds that only grow; for durations and deadlines. */
  monotonicMs(): number;
  /** Milliseconds since the epoch; for what people and other programs read. */
  wallMs(): number;
  /** Resolves after `ms`, or rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
};

/** Polls `probe` until it gives a value other than undefined; undefined once `deadlineMs` have passed. */
export async function poll<T>(
  clock: Clock,
  deadlineMs: number,
  intervalMs: number,
  probe: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const end = clock.monotonicMs() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (clock.monotonicMs() >= end) return undefined;
    await clock.sleep(intervalMs);
  }
}
