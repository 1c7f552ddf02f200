/** RFC 6040: the ECN field through a tunnel, every combination. The expected table is typed from figure 4, not from the code. */
import { expect, test } from 'vitest';
import { decapsulatedTos, ECN_DROP, encapsulatedTos } from '../../src/dataplane/ecn.ts';

const NAMES = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];
const code = (name: string) => NAMES.indexOf(name);

// inner, outer, what is forwarded ('drop': §4.2 "MUST drop the packet")
const FIGURE_4 = [
  ['Not-ECT', 'Not-ECT', 'Not-ECT'],
  ['Not-ECT', 'ECT(0)', 'Not-ECT'],
  ['Not-ECT', 'ECT(1)', 'Not-ECT'],
  ['Not-ECT', 'CE', 'drop'],
  ['ECT(0)', 'Not-ECT', 'ECT(0)'],
  ['ECT(0)', 'ECT(0)', 'ECT(0)'],
  ['ECT(0)', 'ECT(1)', 'ECT(1)'],
  ['ECT(0)', 'CE', 'CE'],
  ['ECT(1)', 'Not-ECT', 'ECT(1)'],
  ['ECT(1)', 'ECT(0)', 'ECT(1)'],
  ['ECT(1)', 'ECT(1)', 'ECT(1)'],
  ['ECT(1)', 'CE', 'CE'],
  ['CE', 'Not-ECT', 'CE'],
  ['CE', 'ECT(0)', 'CE'],
  ['CE', 'ECT(1)', 'CE'],
  ['CE', 'CE', 'CE'],
] as const;

test.each(FIGURE_4)('§4.2 decapsulation: inner %s, outer %s -> %s', (inner, outer, result) => {
  const expected = result === 'drop' ? ECN_DROP : code(result);
  expect(decapsulatedTos(code(inner), code(outer))).toBe(expected);
});

test('§4.2: the DSCP of the inner header stays, whatever the outer one says', () => {
  expect(decapsulatedTos(0xb8 | code('ECT(0)'), 0x20 | code('CE'))).toBe(0xb8 | code('CE'));
});

test.each(NAMES)('§4.1 normal mode: %s is copied to the outer header, and the DSCP with it', (name) => {
  expect(encapsulatedTos(0xb8 | code(name))).toBe(0xb8 | code(name));
});
