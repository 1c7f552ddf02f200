import fc from 'fast-check';
import { expect, test } from 'vitest';
import { pairwise, product } from '../../helpers/pairwise.ts';

const someFactors = fc.dictionary(
  fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
  fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 5 }),
  { minKeys: 2, maxKeys: 6, noNullPrototype: true },
);

test('every pair of values of any two factors is in one row at least, and values are the factors’', () => {
  fc.assert(
    fc.property(someFactors, (factors) => {
      const rows = pairwise(factors);
      for (const [one, other] of product({ one: Object.keys(factors), other: Object.keys(factors) })
        .filter((names) => names.one !== names.other)
        .map((names) => [names.one, names.other] as const))
        for (const value of factors[one]!)
          for (const otherValue of factors[other]!)
            expect(rows.some((row) => row[one] === value && row[other] === otherValue)).toBe(true);
      for (const row of rows)
        for (const [name, values] of Object.entries(factors)) expect(values).toContain(row[name]);
    }),
    { numRuns: 50 },
  );
});

test('far fewer than all: of eight switches and two lists of four and five, less than 30 instead of 5,120', () => {
  const switches = Object.fromEntries([...'abcdefgh'].map((name) => [name, [0, 1]]));
  const factors = { long: [1, 2, 3, 4, 5], short: [1, 2, 3, 4], ...switches };
  expect(product(factors)).toHaveLength(5120);
  expect(pairwise(factors).length).toBeLessThan(30);
  expect(pairwise(factors)).toEqual(pairwise(factors));
});
