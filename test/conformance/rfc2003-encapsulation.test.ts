/** RFC 2003, IP Encapsulation within IP: its MUSTs, each by what the two directions do with real bytes. */
import { expect, test } from 'vitest';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { decodeFrame, type Ipv4Layer, ipv4Layers } from '../../src/wire/decode.ts';
import { bytes } from '../helpers/bytes.ts';
import { fromTun, makeInbound, makeOutbound, PEER, SELF } from '../helpers/memory-direction.ts';
import { type Ipv4Fields, icmpPacket, ipv4Packet, udpPacket, W1, W3 } from '../helpers/packets.ts';

function headers(packet: Uint8Array): [outer: Ipv4Layer, inner: Ipv4Layer] {
  const [outer, inner] = ipv4Layers(decodeFrame(packet, { link: 'ip' }));
  return [outer!, inner!];
}

function encapsulate(packet: Uint8Array): Uint8Array {
  const sent = makeOutbound().send(fromTun(packet));
  expect(sent).toHaveLength(1);
  return sent[0]!.bytes;
}

function decapsulate(packet: Uint8Array): Uint8Array | undefined {
  return makeInbound().receive(packet)[0]?.packet;
}

const fromPeer = (inner: Uint8Array, fields: Ipv4Fields = {}) =>
  ipv4Packet(4, [...inner], { source: PEER, destination: SELF, ...fields });
const toUs = (fields: Ipv4Fields = {}) => udpPacket([1, 2, 3], { source: W3, destination: W1, ...fields });

test('§3.1: the reference packet: outer header without options, protocol 4, the inner packet unchanged behind it', () => {
  const inner = icmpPacket(8, 0, 0x00010001, new Array(56).fill(0));
  const packet = encapsulate(inner);
  expect(packet.subarray(0, 20)).toEqual(
    bytes('45 00 00 68 00 00 40 00 40 04 21 7a 0a 00 02 0f 0a 00 03 0a'),
  );
  expect(packet.subarray(20, 40)).toEqual(
    bytes('45 00 00 54 12 34 40 00 3f 01 30 61 c0 a8 2a 41 c0 a8 4d 82'),
  );
  expect(packet.subarray(20)).toEqual(inner);
});

test('§3.1: total length and checksum of the outer header are right, inner options are not copied to it', () => {
  const packet = encapsulate(udpPacket([1, 2, 3], { options: [7, 7, 4, 0, 0, 0, 0, 0] }));
  const [outer, inner] = headers(packet);
  expect([outer.length, inner.length]).toEqual([20, 28]);
  expect([outer.totalLength, outer.checksum]).toEqual([packet.length, 'ok']);
});

test.each([0x00, 0xb8, 0x02, 0x03, 0xff])('§3.1: the TOS 0x%s is copied', (tos) => {
  const [outer] = headers(encapsulate(udpPacket([1], { tos })));
  expect(outer.tos).toBe(tos);
});

test('§3.1: if DF is set in the inner header it MUST be set in the outer one', () => {
  expect(headers(encapsulate(udpPacket([1])))[0].dontFragment).toBe(true);
  expect(headers(encapsulate(udpPacket([1], { fragment: 0 })))[0].dontFragment).toBe(false);
});

test('§3.1: the inner TTL is not changed at the entry (forwarding did it) nor at the exit', () => {
  const [outer, inner] = headers(encapsulate(udpPacket([1], { ttl: 7 })));
  expect([outer.ttl, inner.ttl]).toEqual([64, 7]);
  expect(decapsulate(fromPeer(toUs({ ttl: 7 }), { ttl: 2 }))).toEqual(toUs({ ttl: 7 }));
});

test('§3.1: a packet with TTL 0 MUST NOT be encapsulated', () => {
  expect(makeOutbound().send(fromTun(udpPacket([1], { ttl: 0 })))).toEqual([]);
});

test('§3.2: no packet is encapsulated whose source is the encapsulator or whose destination is the exit, again', () => {
  const again = (source: number, destination: number) =>
    makeOutbound().send(fromTun(ipv4Packet(4, [...udpPacket([1])], { source, destination })));
  expect(again(SELF, W3)).toEqual([]);
  expect(again(W1, PEER)).toEqual([]);
});

test('§3: what the entry wraps the exit unwraps to the same bytes', () => {
  const sizes = [0, 1, 2, 3, 1000, 1452];
  for (const size of sizes) {
    const inner = udpPacket(
      Array.from({ length: size }, (_, i) => i & 255),
      { source: W3, destination: W1 },
    );
    expect(decapsulate(fromPeer(inner))).toEqual(inner);
  }
});

test('§4.1: "protocol unreachable" MUST NOT reach the inner sender as such, "fragmentation needed" MUST, less the header', () => {
  const outer = encapsulate(udpPacket(new Array(1400).fill(0)));
  const hear = (code: number, rest: number) => {
    const message = icmpPacket(3, code, rest, [...outer.subarray(0, 60)], {
      source: ipv4('10.0.2.1'),
      destination: SELF,
    });
    const [answer] = makeOutbound().hear(message);
    return [
      answer!.destination,
      ...answer!.bytes.subarray(20, 22),
      answer!.bytes[26]! * 256 + answer!.bytes[27]!,
    ];
  };
  expect(hear(2, 0)).toEqual([W1, 3, 1, 0]);
  expect(hear(4, 1400)).toEqual([W1, 3, 4, 1380]);
});

test('§4 and §5: a router that quotes only 8 bytes is remembered, and the next inner packet answered', () => {
  const rig = makeOutbound();
  const outer = encapsulate(udpPacket(new Array(1400).fill(0)));
  const about = { source: ipv4('10.0.2.1'), destination: SELF };
  expect(rig.hear(icmpPacket(3, 4, 1400, [...outer.subarray(0, 28)], about))).toEqual([]);
  const [answer] = rig.send(fromTun(udpPacket(new Array(1400).fill(0))));
  expect([answer!.destination, ...answer!.bytes.subarray(20, 22)]).toEqual([W1, 3, 4]);
});

test('§5.1: an inner packet without DF that does not fit leaves as inner fragments', () => {
  const sent = makeOutbound().send(fromTun(udpPacket(new Array(2000).fill(0), { fragment: 0 })));
  const inner = sent.map((packet) => headers(packet.bytes)[1]);
  expect(inner.map((layer) => [layer.fragmentOffset, layer.moreFragments])).toEqual([
    [0, true],
    [1456, false],
  ]);
});
