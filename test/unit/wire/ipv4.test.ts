import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import {
  checkIpv4,
  IPV4_BAD_CHECKSUM,
  IPV4_BAD_HEADER_LENGTH,
  IPV4_BAD_TOTAL_LENGTH,
  IPV4_DF,
  IPV4_NOT_VERSION_4,
  IPV4_OK,
  IPV4_TRUNCATED,
  IPV4_TRUNCATED_HEADER,
  ipv4Destination,
  ipv4DontFragment,
  ipv4IsFragment,
  ipv4Source,
  ipv4TotalLength,
  ipv4Ttl,
  isMulticast,
  isPlainIpv4,
  isUnicast,
  setIpv4Tos,
  setIpv4TotalLength,
  writeIpv4Checksum,
  writeIpv4Header,
  writeTunnelHeader,
} from '../../../src/wire/ipv4.ts';
import { bytes } from '../../helpers/bytes.ts';

/** The inner and outer header of a ping between two workloads, as a kernel tunl0 writes them (TTL 64 outside). */
const INNER = '45 00 00 54 12 34 40 00 3f 01 30 61 c0 a8 2a 41 c0 a8 4d 82';
const OUTER = '45 00 00 68 00 00 40 00 40 04 21 7a 0a 00 02 0f 0a 00 03 0a';

function packet(): Uint8Array {
  const view = new Uint8Array(84 + 4);
  view.set(bytes(INNER));
  return view;
}

test('the reference outer header is written byte for byte', () => {
  const view = new Uint8Array(22).fill(0xaa);
  writeIpv4Header(view, 1, 0, 104, 0, IPV4_DF, 64, 4, ipv4('10.0.2.15'), ipv4('10.0.3.10'));
  expect([...view]).toEqual([0xaa, ...bytes(OUTER), 0xaa]);
});

test('fields of the reference inner header', () => {
  const view = packet();
  expect(checkIpv4(view, 0, 84)).toBe(IPV4_OK);
  expect(ipv4TotalLength(view, 0)).toBe(84);
  expect(ipv4Ttl(view, 0)).toBe(63);
  expect(ipv4DontFragment(view, 0)).toBe(true);
  expect(ipv4IsFragment(view, 0)).toBe(false);
  expect(ipv4Source(view, 0)).toBe(ipv4('192.168.42.65'));
  expect(ipv4Destination(view, 0)).toBe(ipv4('192.168.77.130'));
});

test('bytes after the packet are allowed: Ethernet pads', () => {
  expect(checkIpv4(packet(), 0, 88)).toBe(IPV4_OK);
});

test.each([
  ['no byte at all', 0, () => {}, IPV4_TRUNCATED_HEADER],
  ['19 bytes', 19, () => {}, IPV4_TRUNCATED_HEADER],
  ['IPv6', 84, (v: Uint8Array) => (v[0] = 0x60), IPV4_NOT_VERSION_4],
  ['a short piece of IPv6', 8, (v: Uint8Array) => (v[0] = 0x60), IPV4_NOT_VERSION_4],
  ['IHL 4', 84, (v: Uint8Array) => (v[0] = 0x44), IPV4_BAD_HEADER_LENGTH],
  ['options that are not there', 20, (v: Uint8Array) => (v[0] = 0x46), IPV4_TRUNCATED_HEADER],
  ['total length below the header', 84, (v: Uint8Array) => (v[3] = 19), IPV4_BAD_TOTAL_LENGTH],
  ['total length beyond the bytes', 83, () => {}, IPV4_TRUNCATED],
  ['one flipped bit', 84, (v: Uint8Array) => (v[15] = v[15]! ^ 1), IPV4_BAD_CHECKSUM],
])('check: %s', (_name, length, spoil, verdict) => {
  const view = packet();
  spoil(view);
  expect(checkIpv4(view, 0, length)).toBe(verdict);
});

test('the quick answer is yes for just the good ones without options', () => {
  const at = 3;
  const changes = fc.array(fc.tuple(fc.nat(19), fc.nat(255)), { maxLength: 2 });
  fc.assert(
    fc.property(changes, fc.boolean(), fc.integer({ min: 0, max: 90 }), (changed, mended, length) => {
      const view = new Uint8Array(at + 90);
      view.set(packet(), at);
      for (const [byte, value] of changed) view[at + byte] = value;
      if (mended) writeIpv4Checksum(view, at);
      const isGood = checkIpv4(view, at, length) === IPV4_OK && view[at] === 0x45;
      expect(isPlainIpv4(new DataView(view.buffer), at, length)).toBe(isGood);
    }),
    { numRuns: 1000 },
  );
});

test('an outer header written in words is the one written field by field', () => {
  const [u8, u16] = [fc.nat(255), fc.nat(65_535)];
  const addresses = fc.tuple(fc.nat(0xffff_ffff), fc.nat(0xffff_ffff));
  fc.assert(
    fc.property(
      u8,
      u16,
      fc.boolean(),
      u16,
      addresses,
      (tos, length, df, ttlAndProtocol, [source, destination]) => {
        const [words, fields] = [new Uint8Array(21), new Uint8Array(21)];
        const fragment = df ? IPV4_DF : 0;
        const [ttl, protocol] = [ttlAndProtocol >>> 8, ttlAndProtocol & 255];
        writeIpv4Header(fields, 1, tos, length, 0, fragment, ttl, protocol, source, destination);
        const view = new DataView(words.buffer);
        writeTunnelHeader(view, 1, tos, length, fragment, ttlAndProtocol, source | 0, destination | 0);
        expect(words).toEqual(fields);
      },
    ),
  );
});

test('changing TOS and total length keeps the checksum right', () => {
  const view = packet();
  setIpv4Tos(view, 0, 0xb9);
  setIpv4TotalLength(view, 0, 83);
  expect(checkIpv4(view, 0, 84)).toBe(IPV4_OK);
  const again = Uint8Array.from(view);
  writeIpv4Checksum(again, 0);
  expect(again).toEqual(view);
});

test('address classes', () => {
  expect(isMulticast(ipv4('224.0.0.1'))).toBe(true);
  expect(isMulticast(ipv4('240.0.0.1'))).toBe(false);
  expect(['0.0.0.0', '127.0.0.1', '224.0.0.5', '255.255.255.255'].map((a) => isUnicast(ipv4(a)))).toEqual([
    false,
    false,
    false,
    false,
  ]);
  expect(isUnicast(ipv4('192.168.1.1'))).toBe(true);
});
