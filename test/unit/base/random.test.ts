import { expect, test } from 'vitest';
import { seededRandom, systemRandom } from '../../../src/base/random.ts';

const draws = (seed: number, bound: number) => {
  const random = seededRandom(seed);
  return Array.from({ length: 1_000 }, () => random.below(bound));
};

test('a seed repeats its numbers, and another seed gives others', () => {
  expect(draws(7, 1_000)).toEqual(draws(7, 1_000));
  expect(draws(7, 1_000)).not.toEqual(draws(8, 1_000));
});

test.each([1, 2, 6, 1_000, 2 ** 32])('every number is below %d, and the range is used', (bound) => {
  for (const n of [...draws(1, bound), systemRandom.below(bound)]) {
    expect(Number.isInteger(n) && n >= 0 && n < bound).toBe(true);
  }
  const used = new Set(draws(1, bound)).size;
  expect(used).toBeGreaterThan(Math.min(bound, 1_000) * 0.6);
});
