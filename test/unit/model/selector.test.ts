import { expect, test } from 'vitest';
import { parseSelector, selects } from '../../../src/model/selector.ts';

const LABELS = { zone: 'az-a', 'k8s.io/role': 'db', empty: '' };

test.each([
  ['', true],
  ['all()', true],
  ['global()', true],
  ['!all()', false],
  ['has(zone)', true],
  ['has(k8s.io/role)', true],
  ['has(rack)', false],
  ["zone == 'az-a'", true],
  ['zone == "az-b"', false],
  ["zone != 'az-a'", false],
  ["rack != 'r1'", true],
  ["rack == ''", false],
  ["empty == ''", true],
  ["zone in {'az-b', 'az-a'}", true],
  ['zone in {}', false],
  ["zone not in {'az-a'}", false],
  ["rack not in {'r1'}", true],
  ["rack in {'r1'}", false],
  ["zone contains '-'", true],
  ["zone starts with 'az'", true],
  ["zone ends with 'b'", false],
  ["rack starts with ''", false],
  ["has(rack) || zone == 'az-a' && has(empty)", true],
  ["(has(rack) || zone == 'az-a') && !has(empty)", false],
  ["!has(rack) && !(zone == 'az-b')", true],
  ["toString == 'x' || has(constructor)", false],
])('%s', (text, selected) => {
  expect(parseSelector(text).ok).toBe(true);
  expect(selects(text, LABELS)).toBe(selected);
});

test.each([
  ['zone', 'expected an operator at character 5, got the end'],
  ['zone == az', 'expected a quoted string at character 9, got az'],
  ["zone = 'a'", 'unexpected = at character 6'],
  ['all() all()', 'expected &&, || or the end at character 7, got all'],
  ['any()', 'unknown function any()'],
  ["zone in {'a'", 'expected } at character 13, got the end'],
  ["'zone", "unexpected ' at character 1"],
  ["zone not contains 'a'", 'expected an operator at character 10, got contains'],
  [`${'('.repeat(500)}all()`, 'nested deeper than 100'],
])('%s is refused', (text, problem) => {
  expect(parseSelector(text)).toEqual({ ok: false, problem });
  expect(selects(text, LABELS)).toBe(false);
});
