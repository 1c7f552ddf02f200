import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sumBytes } from '../../src/wire/checksum.ts';
import { arenaSum } from '../../src/wire/checksum-simd.ts';

const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 });
const view = new Uint8Array(memory.buffer);
// No processor that Node 20 is built for lacks 128-bit integers in practice; one that does fails here, loudly.
const sum = arenaSum(memory)!;

test('the sum is that of the slow twin, at any offset, length and initial value', () => {
  const byte = fc.integer({ min: 0, max: 255 });
  const initial = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 400 }),
      fc.nat(70),
      initial,
      byte,
      (data, offset, start, around) => {
        view.fill(around, 0, 600);
        view.set(data, offset);
        expect(sum(offset, data.length, start)).toBe(sumBytes(view, offset, data.length, start));
      },
    ),
    { numRuns: 1000 },
  );
});

test.each([0x00, 0x01, 0xff])('every length up to 100 and the longest, all bytes %i', (value) => {
  view.fill(value);
  for (const length of [...Array.from({ length: 101 }, (_, i) => i), 65_534, 65_535])
    for (const initial of [0, 1, 0xffff])
      expect(sum(3, length, initial)).toBe(sumBytes(view, 3, length, initial));
});
