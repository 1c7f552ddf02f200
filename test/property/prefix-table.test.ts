/** The longest-prefix table against a slow twin that looks at every prefix. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NO_MATCH, PrefixTable } from '../../src/fib/prefix-table.ts';
import { netmask } from '../../src/ip/prefix.ts';

type Entry = { address: number; length: number; value: number };

/** Every prefix is looked at: right by inspection. */
class SlowTable {
  readonly entries: Entry[] = [];

  set(address: number, length: number, value: number): number {
    const old = this.delete(address, length);
    this.entries.push({ address, length, value });
    return old;
  }

  delete(address: number, length: number): number {
    const index = this.entries.findIndex((e) => e.address === address && e.length === length);
    return index < 0 ? NO_MATCH : this.entries.splice(index, 1)[0]!.value;
  }

  lookup(address: number, maxLength = 32): number {
    const holding = this.entries
      .filter((e) => e.length <= maxLength && (address & netmask(e.length)) >>> 0 === e.address)
      .sort((a, b) => b.length - a.length);
    return holding[0]?.value ?? NO_MATCH;
  }
}

/** Few bits vary, so that prefixes cover each other and addresses are often found. */
const address = fc
  .tuple(fc.constantFrom(0, 0x0a000000, 0xc0a80000, 0xfffffff0), fc.nat(0x3ff))
  .map(([base, low]) => (base | (low << 2) | (low & 3)) >>> 0);
const prefix = fc
  .tuple(address, fc.integer({ min: 0, max: 32 }))
  .map(([a, length]) => ({ address: (a & netmask(length)) >>> 0, length }));
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('set' as const), prefix, value: fc.nat(1000) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('delete' as const), prefix, value: fc.nat(1000) }) },
);

test('after any changes the table answers as its slow twin', () => {
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 200 }),
      fc.array(address, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 0, max: 32 }),
      (operations, probes, maxLength) => {
        const fast = new PrefixTable();
        const slow = new SlowTable();
        for (const { op, prefix: p, value } of operations) {
          if (op === 'set')
            expect(fast.set(p.address, p.length, value)).toBe(slow.set(p.address, p.length, value));
          else expect(fast.delete(p.address, p.length)).toBe(slow.delete(p.address, p.length));
          expect(fast.size).toBe(slow.entries.length);
        }
        for (const probe of [...probes, ...operations.map((o) => o.prefix.address)]) {
          expect(fast.lookup(probe)).toBe(slow.lookup(probe));
          expect(fast.lookup(probe, maxLength)).toBe(slow.lookup(probe, maxLength));
        }
        for (const e of slow.entries) expect(fast.get(e.address, e.length)).toBe(e.value);
        const all: Entry[] = [];
        fast.forEach((a, length, value) => {
          all.push({ address: a, length, value });
        });
        const order = (x: Entry, y: Entry) => x.address - y.address || x.length - y.length;
        expect(all.sort(order)).toEqual([...slow.entries].sort(order));
      },
    ),
    { numRuns: 200 },
  );
});

test('20,000 blocks: every one is found, and a change leaves the others alone', () => {
  const table = new PrefixTable();
  const block = (i: number) => (0x0a000000 + i * 64) >>> 0;
  for (let i = 0; i < 20_000; i++) table.set(block(i), 26, i);
  for (let i = 0; i < 20_000; i += 3) table.delete(block(i), 26);
  const wrong = Array.from({ length: 20_000 }, (_, i) => i).filter(
    (i) => table.lookup(block(i) + 63) !== (i % 3 === 0 ? NO_MATCH : i),
  );
  expect(wrong).toEqual([]);
});
