import { expect, test } from 'vitest';
import { UsageError } from '../../../src/base/errors.ts';
import { wholeNumber } from '../../../src/base/whole-number.ts';

test('whole numbers within their bounds, both included', () => {
  expect(['1', '10', '16'].map((text) => wholeNumber('--queues', text, 1, 16))).toEqual([1, 10, 16]);
  expect(wholeNumber('--metrics', '0', 0, 65535)).toBe(0);
});

test('all else is an error that names the flag, the bounds and what was given', () => {
  for (const text of ['0', '17', '', ' 1', '-1', '+1', '01', '1.5', '1e1', '0x1', 'x', '9'.repeat(400)])
    expect(() => wholeNumber('--queues', text, 1, 16)).toThrow(
      new UsageError(`--queues: expected a whole number from 1 to 16, got "${text}"`),
    );
});
