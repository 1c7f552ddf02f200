/** RFC 1191 and RFC 2003 §4-5: what the tunnel's entry tells inner senders about packets that do not get through. */
import { expect, test } from 'vitest';
import {
  MAX_ICMP_ERROR_BYTES,
  mayAnswer,
  RELAY_FRAGMENTATION_NEEDED,
  RELAY_HOST_UNREACHABLE,
  RELAY_NET_UNREACHABLE,
  RELAY_NOTHING,
  relayedError,
  reportedPathMtu,
  TokenBucket,
  writeFragmentationNeeded,
  writeHostUnreachable,
} from '../../src/dataplane/icmp-errors.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { checkIcmpv4 } from '../../src/wire/icmpv4.ts';
import {
  checkIpv4,
  IPV4_OK,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Source,
  ipv4Tos,
} from '../../src/wire/ipv4.ts';
import { bytes } from '../helpers/bytes.ts';
import { icmpPacket, ipv4Packet, tcpPacket, udpPacket, W1, W3 } from '../helpers/packets.ts';

const TUNNEL = ipv4('192.168.42.64');

// A TCP packet of 1480 bytes of which a router would quote the header and 8 bytes, and the answer to it.
const TOO_BIG = bytes('45 00 05 c8 12 34 40 00 3f 06 2a e8 c0 a8 2a 41 c0 a8 4d 82 c3 50 01 bb 00 00 00 01');
const ANSWER = bytes(
  `03 04 32 4f 00 00 05 a0 45 00 05 c8 12 34 40 00 3f 06 2a e8 c0 a8 2a 41 c0 a8 4d 82 c3 50 01 bb 00 00 00 01`,
);

test('RFC 1191 §4: fragmentation needed carries the next-hop MTU and quotes the header and 8 bytes', () => {
  const output = new Uint8Array(700);
  const length = writeFragmentationNeeded(output, 3, 1440, TUNNEL, TOO_BIG, 0, TOO_BIG.length);
  expect(length).toBe(20 + ANSWER.length);
  expect(output.slice(3 + 20, 3 + length)).toEqual(ANSWER);
  expect(checkIpv4(output, 3, length)).toBe(IPV4_OK);
  expect([ipv4Source(output, 3), ipv4Destination(output, 3), ipv4Protocol(output, 3)]).toEqual([
    TUNNEL,
    W1,
    1,
  ]);
});

test('RFC 1812 §4.3.2.3: the quote is as long as fits in 576 bytes, and no longer', () => {
  const packet = tcpPacket(Array.from({ length: 1440 }, (_, i) => i & 255));
  const output = new Uint8Array(700);
  const length = writeHostUnreachable(output, 0, TUNNEL, packet, 0, packet.length);
  expect(length).toBe(MAX_ICMP_ERROR_BYTES);
  expect(output.slice(28, length)).toEqual(packet.slice(0, 548));
  expect(checkIcmpv4(output, 20, length - 20)).toBe(true);
  expect([output[20], output[21], ipv4Tos(output, 0), ipv4HeaderBytes(output, 0)]).toEqual([3, 1, 0xc0, 20]);
});

test('what is behind the packet in the buffer is not quoted', () => {
  const packet = new Uint8Array(200).fill(0xee);
  packet.set(udpPacket([1, 2, 3]));
  expect(writeHostUnreachable(new Uint8Array(700), 0, TUNNEL, packet, 0, 200)).toBe(28 + 31);
});

test.each([
  ['TCP', tcpPacket([1]), true],
  ['an echo request', icmpPacket(8, 0, 0x10001, []), true],
  ['an echo reply', icmpPacket(0, 0, 0x10001, []), true],
  ['a first fragment', ipv4Packet(17, [0, 1, 0, 2, 0, 16, 0, 0], { fragment: 0x2000 }), true],
  ['another fragment', ipv4Packet(17, [0, 1, 0, 2, 0, 16, 0, 0], { fragment: 0x0001 }), false],
  ['an ICMP unreachable', icmpPacket(3, 1, 0, [...TOO_BIG]), false],
  ['an ICMP time exceeded', icmpPacket(11, 0, 0, [...TOO_BIG]), false],
  ['a redirect', icmpPacket(5, 1, 0, [...TOO_BIG]), false],
  ['ICMP of an unknown type', icmpPacket(200, 0, 0, []), false],
  ['ICMP without its type', ipv4Packet(1, []), false],
  ['to a multicast group', udpPacket([1], { destination: ipv4('224.0.0.251') }), false],
  ['to everybody', udpPacket([1], { destination: ipv4('255.255.255.255') }), false],
  ['from nobody', udpPacket([1], { source: 0 }), false],
  ['from loopback', udpPacket([1], { source: ipv4('127.0.0.1') }), false],
  ['from a multicast group', udpPacket([1], { source: ipv4('224.0.0.1') }), false],
])('RFC 1122 §3.2.2: %s', (_name, packet, answered) => {
  expect(mayAnswer(packet, 0, packet.length)).toBe(answered);
});

// RFC 2003 §4.1-4.5, as far as an encapsulator that keeps state per peer relays at all.
test.each([
  ['network unreachable', 3, 0, RELAY_NET_UNREACHABLE],
  ['host unreachable', 3, 1, RELAY_HOST_UNREACHABLE],
  ['protocol unreachable: never as such', 3, 2, RELAY_HOST_UNREACHABLE],
  ['port unreachable', 3, 3, RELAY_NOTHING],
  ['fragmentation needed: MUST', 3, 4, RELAY_FRAGMENTATION_NEEDED],
  ['source route failed', 3, 5, RELAY_NOTHING],
  ['prohibited by an administrator', 3, 13, RELAY_HOST_UNREACHABLE],
  ['source quench', 4, 0, RELAY_NOTHING],
  ['redirect', 5, 1, RELAY_NOTHING],
  ['time exceeded in the tunnel', 11, 0, RELAY_HOST_UNREACHABLE],
  ['reassembly time exceeded', 11, 1, RELAY_NOTHING],
  ['parameter problem', 12, 0, RELAY_NOTHING],
  ['an answer to a ping', 0, 0, RELAY_NOTHING],
])('RFC 2003 §4: %s', (_name, type, code, relayed) => {
  expect(relayedError(type, code)).toBe(relayed);
});

test.each([
  ['what the router says', 1400, 1500, 1400],
  ['never below 68', 20, 1500, 68],
  ['an old router, 1500 bytes did not fit', 0, 1500, 1492],
  ['an old router, 1492 bytes did not fit', 0, 1492, 1006],
  ['an old router, 65535 bytes did not fit', 0, 65_535, 32_000],
  ['an old router, a nonsensical length', 0, 20, 68],
])('RFC 1191 §5 and §7: %s', (_name, reported, quotedLength, mtu) => {
  expect(reportedPathMtu(reported, quotedLength)).toBe(mtu);
});

test('RFC 1812 §4.3.2.8: errors are limited in rate, by the clock given', () => {
  const bucket = new TokenBucket(10, 3, 1000);
  const takes = (n: number, nowMs: number) =>
    Array.from({ length: n }, () => bucket.take(nowMs)).filter(Boolean).length;
  expect(takes(5, 1000)).toBe(3);
  expect(takes(5, 1099)).toBe(0);
  expect(takes(5, 1190)).toBe(1);
  expect(takes(5, 900)).toBe(0);
  expect(takes(5, 60_000)).toBe(3);
});

test('sources and destinations of the vectors are the ones they name', () => {
  expect([ipv4Source(TOO_BIG, 0), ipv4Destination(TOO_BIG, 0)]).toEqual([W1, W3]);
});
