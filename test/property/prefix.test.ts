/** Prefix arithmetic on integers against the same on strings of bits, which is slow and plainly right. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIpv4, ipv4FromNumber, parseIpv4 } from '../../src/ip/ipv4.ts';
import {
  comparePrefixes,
  formatPrefix,
  parseInterfaceAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixOf,
  prefixSize,
} from '../../src/ip/prefix.ts';

// The edges where JavaScript's 32-bit operators go wrong, often.
const address = fc
  .oneof(
    fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xc0a80000, 0xffffffff),
    fc.integer({ min: 0, max: 0xffffffff }),
  )
  .map(ipv4FromNumber);
const length = fc.oneof(fc.constantFrom(0, 1, 31, 32), fc.integer({ min: 0, max: 32 }));
const prefix = fc.tuple(address, length).map(([a, l]) => prefixOf(a, l));

const bits = (value: number) => value.toString(2).padStart(32, '0');

test('an address is what its text says, and back', () => {
  fc.assert(fc.property(address, (a) => parseIpv4(formatIpv4(a)) === a));
});

test('only four decimal octets without leading zeros are an address', () => {
  const octets = fc.array(fc.integer({ min: 0, max: 999 }).map(String), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(octets, (parts) => {
      const valid = parts.length === 4 && parts.every((part) => Number(part) <= 255);
      expect(parseIpv4(parts.join('.')) !== undefined).toBe(valid);
    }),
  );
  for (const text of [
    '',
    '1.2.3',
    '01.2.3.4',
    '1.2.3.4 ',
    '+1.2.3.4',
    '1.2.3.4.',
    '0x1.2.3.4',
    '١.2.3.4',
    '1..2.3',
  ])
    expect(parseIpv4(text), text).toBeUndefined();
});

test('a prefix holds the addresses that begin with its bits', () => {
  fc.assert(
    fc.property(prefix, address, (p, a) => {
      expect(prefixContains(p, a)).toBe(bits(a).startsWith(bits(p.address).slice(0, p.length)));
    }),
  );
});

test('prefixOf keeps the address in the prefix and clears every host bit', () => {
  fc.assert(
    fc.property(address, length, (a, l) => {
      const p = prefixOf(a, l);
      expect(bits(p.address)).toBe(bits(a).slice(0, l).padEnd(32, '0'));
      expect(prefixContains(p, a)).toBe(true);
      expect(p.address).toBeGreaterThanOrEqual(0);
    }),
  );
});

test('covering and overlapping agree with the bits', () => {
  fc.assert(
    fc.property(prefix, prefix, (a, b) => {
      const covers = b.length >= a.length && bits(b.address).startsWith(bits(a.address).slice(0, a.length));
      expect(prefixCovers(a, b)).toBe(covers);
      expect(prefixesOverlap(a, b)).toBe(covers || prefixCovers(b, a));
      expect(prefixesOverlap(a, b)).toBe(prefixesOverlap(b, a));
    }),
  );
});

test('text forms: a prefix refuses host bits, an interface address keeps them', () => {
  fc.assert(
    fc.property(address, length, (a, l) => {
      const text = `${formatIpv4(a)}/${l}`;
      expect(parseInterfaceAddress(text)).toEqual({ address: a, length: l });
      const clean = prefixOf(a, l).address === a;
      expect(parsePrefix(text)).toEqual(clean ? { address: a, length: l } : undefined);
      expect(formatPrefix(prefixOf(a, l))).toBe(`${formatIpv4(prefixOf(a, l).address)}/${l}`);
    }),
  );
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/',
    '/8',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
  ])
    expect(parsePrefix(text), text).toBeUndefined();
  expect(parseInterfaceAddress('10.0.2.10')).toMatchObject({ length: 32 });
});

test('order is by address, then the shorter first; size is the number of addresses', () => {
  fc.assert(
    fc.property(fc.array(prefix), (list) => {
      const texts = [...list]
        .sort(comparePrefixes)
        .map((p) => `${bits(p.address)}/${String(p.length).padStart(2, '0')}`);
      expect(texts).toEqual([...texts].sort());
    }),
  );
  expect([0, 24, 32].map((l) => prefixSize(prefixOf(0, l)))).toEqual([2 ** 32, 256, 1]);
});
