import { expect, test } from 'vitest';
import { type Clock, poll, systemClock } from '../../../src/base/clock.ts';

/** Time that passes only while somebody sleeps. */
function virtualClock(): Clock {
  let now = 0;
  return {
    monotonicMs: () => now,
    wallMs: () => now,
    async sleep(ms) {
      now += ms;
    },
  };
}

test('poll gives the first value other than undefined, false and null included', async () => {
  const answers = [undefined, undefined, false];
  expect(await poll(virtualClock(), 100, 10, async () => answers.shift())).toBe(false);
  expect(await poll(virtualClock(), 100, 10, async () => null)).toBe(null);
});

test('poll asks at once, then at every interval up to the deadline and once at it', async () => {
  const clock = virtualClock();
  const asked: number[] = [];
  const value = await poll(clock, 30, 10, async () => {
    asked.push(clock.monotonicMs());
    return undefined;
  });
  expect(value).toBeUndefined();
  expect(asked).toEqual([0, 10, 20, 30]);
});

test('poll does not hide an error of the probe', async () => {
  await expect(poll(virtualClock(), 100, 10, () => Promise.reject(new Error('broken')))).rejects.toThrow(
    'broken',
  );
});

test('an aborted sleep rejects with the reason of the signal, also where it was aborted before', async () => {
  const controller = new AbortController();
  const asleep = systemClock.sleep(60_000, controller.signal);
  controller.abort(new Error('enough'));
  await expect(asleep).rejects.toThrow('enough');
  await expect(systemClock.sleep(60_000, controller.signal)).rejects.toThrow('enough');
});
