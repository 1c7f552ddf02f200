/** A map by prefix against a slow twin: a list, the longest prefix found by looking at each. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatPrefix, type Prefix, prefixContains, prefixOf } from '../../src/ip/prefix.ts';
import { PrefixMap } from '../../src/ip/prefix-map.ts';

// Few bits vary, so that prefixes meet and cover each other; both halves of the address space.
const anAddress = fc.tuple(fc.constantFrom(0x0a000000, 0xc0a80000), fc.nat(15)).map(([a, b]) => a + b * 16);
const aPrefix = fc
  .tuple(anAddress, fc.constantFrom(0, 8, 24, 26, 28, 32))
  .map(([address, length]) => prefixOf(address, length));
const aStep = fc.tuple(aPrefix, fc.option(fc.nat(100)));

test('after any changes it answers as its slow twin', () => {
  fc.assert(
    fc.property(fc.array(aStep, { maxLength: 60 }), fc.array(anAddress), (steps, addresses) => {
      const map = new PrefixMap<number>();
      const twin = new Map<string, { prefix: Prefix; value: number }>();
      for (const [prefix, value] of steps) {
        if (value === null) {
          map.delete(prefix);
          twin.delete(formatPrefix(prefix));
        } else {
          map.set(prefix, value);
          twin.set(formatPrefix(prefix), { prefix, value });
        }
      }
      for (const [prefix] of steps) expect(map.get(prefix)).toBe(twin.get(formatPrefix(prefix))?.value);
      const values = [...twin.values()].map(({ value }) => value);
      expect([...map.values()].sort((a, b) => a - b)).toEqual(values.sort((a, b) => a - b));
      for (const address of addresses) {
        const holding = [...twin.values()].filter(({ prefix }) => prefixContains(prefix, address));
        expect(map.longest(address)).toBe(
          holding.sort((a, b) => b.prefix.length - a.prefix.length)[0]?.value,
        );
      }
      map.clear();
      expect([...map.values()]).toEqual([]);
    }),
  );
});
