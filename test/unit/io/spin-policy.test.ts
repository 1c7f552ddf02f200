import { expect, test } from 'vitest';
import { SHORT_SLEEP_MS, SPIN_MS, SpinPolicy } from '../../../src/io/spin-policy.ts';

const SHORT = SHORT_SLEEP_MS / 2;
const LONG = SHORT_SLEEP_MS * 2;

test('an idle thread never spins', () => {
  const policy = new SpinPolicy();
  for (let i = 0; i < 1000; i++) {
    policy.slept(LONG);
    expect(policy.spinning).toBe(false);
  }
});

test('a short sleep begins it, a long one ends it', () => {
  const policy = new SpinPolicy();
  policy.slept(SHORT);
  expect(policy.spinning).toBe(true);
  policy.slept(LONG);
  expect(policy.spinning).toBe(false);
});

test('as long as it catches something it goes on', () => {
  const policy = new SpinPolicy();
  policy.slept(SHORT);
  for (let i = 0; i < 1000; i++) {
    for (let miss = 0; miss < 3; miss++) policy.missed();
    policy.caught();
  }
  expect(policy.spinning).toBe(true);
});

test('where it never pays, sleeps that are always short it takes less than a twelfth of the time', () => {
  const policy = new SpinPolicy();
  const waits = 100_000;
  let spins = 0;
  for (let i = 0; i < waits; i++) {
    if (policy.spinning) {
      spins++;
      policy.missed();
    }
    policy.slept(SHORT_SLEEP_MS * 0.99);
  }
  expect((spins * SPIN_MS) / (waits * SHORT_SLEEP_MS)).toBeLessThan(0.08);
});

test('a round trip now and then: one short sleep and a long one, it spins in vain once and no more', () => {
  const policy = new SpinPolicy();
  let spins = 0;
  for (let trip = 0; trip < 1000; trip++) {
    policy.slept(SHORT);
    if (policy.spinning) {
      spins++;
      policy.missed();
    }
    policy.slept(LONG);
  }
  expect(spins).toBe(1);
  // Packets that come one upon the other are still caught.
  for (let i = 0; i < 2; i++) policy.slept(SHORT);
  expect(policy.spinning).toBe(true);
});
