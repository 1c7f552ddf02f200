import { expect, test } from 'vitest';
import { UsageError } from '../../../src/base/errors.ts';
import { roundsAsked, sizesAsked } from '../../../src/bench/run-bench.ts';

const asked = (word?: string) => sizesAsked(word, [{ nodes: 25 }, { nodes: 500 }], 'nodes', (s) => s.nodes);

test('a size that a bench does not have was a heading with nothing beneath', () => {
  expect(asked()).toHaveLength(2);
  expect(asked('500')).toEqual([{ nodes: 500 }]);
  for (const word of ['7', '', '5 00', '500.0', '2', 'x'])
    expect(() => asked(word)).toThrow(new UsageError(`scale: expected one of 25, 500 nodes; got '${word}'`));
});

test('rounds that are no number were none, and a table of nothing', () => {
  expect([roundsAsked(undefined, 5), roundsAsked('3', 5)]).toEqual([5, 3]);
  for (const word of ['x', '', '0', '-1', '1.5', '1e3'])
    expect(() => roundsAsked(word, 5)).toThrow(
      new UsageError(`rounds: expected a whole number from 1 to 9999, got "${word}"`),
    );
});
