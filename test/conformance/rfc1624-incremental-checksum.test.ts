/** RFC 1624 and RFC 1071: an updated checksum is the one that a full sum gives, always. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  checksum,
  completeChecksum,
  joinSums,
  pseudoHeaderSum,
  sumBytes,
  updateChecksum,
  updateChecksum32,
} from '../../src/wire/checksum.ts';
import {
  checkIpv4,
  IPV4_OK,
  ipv4Checksum,
  setIpv4Tos,
  setIpv4TotalLength,
  writeIpv4Checksum,
  writeIpv4Header,
} from '../../src/wire/ipv4.ts';
import { slowSum, tcpPacket, udpPacket } from '../helpers/packets.ts';

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

test('RFC 1624 §3: after a 16-bit word changed, incremental = full', () => {
  const word = fc.tuple(fc.integer({ min: 0, max: 9 }), u16);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), word, (data, [index, value]) => {
      data[0] = 0x45; // never all zero: the two zeros of one's complement are told apart by that (§3)
      if (index === 0) value |= 0x4500;
      const before = checksum(data, 0, 20);
      const old = (data[index * 2]! << 8) | data[index * 2 + 1]!;
      data[index * 2] = value >>> 8;
      data[index * 2 + 1] = value;
      expect(updateChecksum(before, old, value)).toBe(checksum(data, 0, 20));
    }),
  );
});

test('RFC 1624 §3: after a 32-bit field changed, incremental = full', () => {
  fc.assert(
    fc.property(u32, u32, u16, (before, after, id) => {
      const header = new Uint8Array(20);
      writeIpv4Header(header, 0, 0, 20, id, 0, 64, 6, before, 1);
      const updated = updateChecksum32(ipv4Checksum(header, 0), before, after);
      writeIpv4Header(header, 0, 0, 20, id, 0, 64, 6, after, 1);
      expect(updated).toBe(ipv4Checksum(header, 0));
    }),
  );
});

test('a changed TOS and total length leave a header as good as new', () => {
  fc.assert(
    fc.property(u8, u8, u16, u16, u32, (tos, newTos, id, length, source) => {
      const header = new Uint8Array(20);
      writeIpv4Header(header, 0, tos, 20, id, 0, 64, 4, source, 0x0a00030a);
      setIpv4Tos(header, 0, newTos);
      setIpv4TotalLength(header, 0, length);
      const anew = Uint8Array.from(header);
      writeIpv4Checksum(anew, 0);
      expect(header).toEqual(anew);
    }),
  );
});

test('RFC 1071 §2: the sum equals the slow one, and is the same in pieces', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), (data, cut) => {
      const at = Math.min(cut, data.length);
      const whole = sumBytes(data, 0, data.length, 0);
      expect(whole).toBe(slowSum([...data]));
      const first = sumBytes(data, 0, at, 0);
      expect(joinSums(first, at, sumBytes(data, at, data.length - at, 0))).toBe(whole);
    }),
  );
});

test('RFC 1071 §1: a header with its checksum verifies, and no single flipped bit goes unseen', () => {
  fc.assert(
    fc.property(u16, u32, u32, fc.nat(159), (id, source, destination, bit) => {
      const packet = new Uint8Array(20);
      writeIpv4Header(packet, 0, 0, 20, id, 0x4000, 64, 4, source, destination);
      expect(checkIpv4(packet, 0, 20)).toBe(IPV4_OK);
      packet[bit >> 3] = packet[bit >> 3]! ^ (1 << (bit & 7));
      expect(checkIpv4(packet, 0, 20)).not.toBe(IPV4_OK);
    }),
  );
});

test('a partial checksum, completed, is the full one, for TCP and UDP', () => {
  fc.assert(
    fc.property(fc.array(u8, { maxLength: 100 }), u32, (payload, source) => {
      const tcp = tcpPacket(payload, { source }, false);
      completeChecksum(tcp, 20, 16, tcp.length);
      expect(tcp).toEqual(tcpPacket(payload, { source }));
      const udp = udpPacket(payload, { source }, false);
      completeChecksum(udp, 20, 6, udp.length);
      expect(udp).toEqual(udpPacket(payload, { source }));
    }),
  );
});

test('RFC 768: a UDP checksum that comes out as 0 is sent as 0xffff', () => {
  // With this payload word the whole sums to 0xffff, whose complement is 0.
  const base = udpPacket([0, 0], {}, false);
  const rest = sumBytes(base, 20, base.length - 20, 0);
  const word = 0xffff - rest;
  const packet = udpPacket([word >>> 8, word & 255], {}, false);
  expect((packet[26]! << 8) | packet[27]!).toBe(pseudoHeaderSum(0xc0a82a41, 0xc0a84d82, 17, 10));
  completeChecksum(packet, 20, 6, packet.length);
  expect([packet[26], packet[27]]).toEqual([0xff, 0xff]);
});
