import { expect, test } from 'vitest';
import {
  checksum,
  fold,
  isPartial,
  joinSums,
  pseudoHeaderSum,
  sumBytes,
  updateChecksum,
  updateChecksum32,
} from '../../../src/wire/checksum.ts';
import { bytes } from '../../helpers/bytes.ts';

test('the example of RFC 1071 §3', () => {
  expect(sumBytes(bytes('00 01 f2 03 f4 f5 f6 f7'), 0, 8, 0)).toBe(0xddf2);
});

test('an odd last byte is the high half of a word', () => {
  expect(sumBytes(bytes('ff 12 34 56'), 1, 3, 0)).toBe(fold(0x1234 + 0x5600));
});

test('the longest packet of the highest bytes does not overflow', () => {
  expect(sumBytes(new Uint8Array(65_535).fill(0xff), 0, 65_535, 0xffff)).toBe(0xff00);
});

test('the example of RFC 1624 §4: 0xdd2f, 0x5555 becomes 0x3285, gives 0x0000', () => {
  expect(updateChecksum(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
});

test('a 32-bit field changes like its two halves', () => {
  const one = updateChecksum(updateChecksum(0x1234, 0xc0a8, 0x0a00), 0x2a41, 0x0203);
  expect(updateChecksum32(0x1234, 0xc0a82a41, 0x0a000203)).toBe(one);
});

test('pieces joined at an odd boundary', () => {
  const view = bytes('01 02 03 04 05 06 07');
  expect(joinSums(sumBytes(view, 0, 3, 0), 3, sumBytes(view, 3, 4, 0))).toBe(sumBytes(view, 0, 7, 0));
});

test('a UDP datagram with its pseudo-header sums to zero', () => {
  // 10.0.0.1:1000 -> 10.0.0.2:2000, "hi"; checksum worked out by hand from RFC 768.
  const datagram = bytes('03 e8 07 d0 00 0a 00 00 68 69');
  const pseudo = pseudoHeaderSum(0x0a000001, 0x0a000002, 17, 10);
  const check = ~sumBytes(datagram, 0, 10, pseudo) & 0xffff;
  datagram[6] = check >>> 8;
  datagram[7] = check;
  expect(~sumBytes(datagram, 0, 10, pseudo) & 0xffff).toBe(0);
  expect(isPartial(datagram, 6, pseudo)).toBe(false);
  datagram[6] = pseudo >>> 8;
  datagram[7] = pseudo;
  expect(isPartial(datagram, 6, pseudo)).toBe(true);
});

test('the checksum of bytes that hold their checksum is zero', () => {
  expect(checksum(bytes('45 00 00 68 00 00 40 00 40 04 21 7a 0a 00 02 0f 0a 00 03 0a'), 0, 20)).toBe(0);
});
