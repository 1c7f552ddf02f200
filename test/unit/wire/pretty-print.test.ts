import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeFrame, ipv4Layers } from '../../../src/wire/decode.ts';
import { describeFrame, explainFrame, hexDump } from '../../../src/wire/pretty-print.ts';
import { bytes } from '../../helpers/bytes.ts';
import { icmpPacket, ipv4Packet, tcpPacket, udpPacket } from '../../helpers/packets.ts';

const ETHERNET = '02 00 00 00 00 03 02 00 00 00 00 01 08 00';
const NODES = { source: 0x0a00020f, destination: 0x0a00030a, ttl: 64, id: 0 };

function frame(packet: Uint8Array, trailer: readonly number[] = []): Uint8Array {
  return Uint8Array.from([...bytes(ETHERNET), ...packet, ...trailer]);
}

const PING = icmpPacket(
  8,
  0,
  0x00070001,
  Array.from({ length: 56 }, (_, i) => i),
);
const ENCAPSULATED = frame(ipv4Packet(4, [...PING], NODES));

test('an encapsulated ping on one line', () => {
  expect(describeFrame(ENCAPSULATED)).toBe(
    '10.0.2.15 > 10.0.3.10 protocol 4 (IP in IP), ttl 64, 104 bytes | ' +
      '192.168.42.65 > 192.168.77.130 ICMP echo request, id 7, seq 1, ttl 63, 84 bytes',
  );
});

test('and layer by layer', () => {
  expect(explainFrame(ENCAPSULATED, { hex: false }).split('\n')).toEqual([
    'Ethernet    02:00:00:00:00:01 > 02:00:00:00:00:03, IPv4',
    'outer IPv4  10.0.2.15 > 10.0.3.10, protocol 4 (IP in IP), ttl 64, id 0, DF, 104 bytes, checksum ok',
    'inner IPv4  192.168.42.65 > 192.168.77.130, protocol 1 (ICMP), ttl 63, id 4660, DF, 84 bytes, checksum ok',
    'ICMP        echo request, id 7, seq 1, checksum ok',
    'data        56 bytes',
  ]);
});

test('with the bytes of each layer below it', () => {
  const lines = explainFrame(ENCAPSULATED).split('\n');
  expect(lines.slice(2, 5)).toEqual([
    'outer IPv4  10.0.2.15 > 10.0.3.10, protocol 4 (IP in IP), ttl 64, id 0, DF, 104 bytes, checksum ok',
    '  000e  45 00 00 68 00 00 40 00 40 04 21 7a 0a 00 02 0f  E..h..@.@.!z....',
    '  001e  0a 00 03 0a                                      ....',
  ]);
});

test('the addresses of the outer and the inner packet, for programs', () => {
  const layers = ipv4Layers(decodeFrame(ENCAPSULATED));
  expect(layers.map((layer) => [layer.source, layer.destination, layer.protocol])).toEqual([
    [0x0a00020f, 0x0a00030a, 4],
    [0xc0a82a41, 0xc0a84d82, 1],
  ]);
});

test('the udp transport: an inner packet on the tunnel port, and no other', () => {
  const inner = [...tcpPacket([1])];
  const kinds = (port: number) =>
    decodeFrame(frame(udpPacket(inner, { ...NODES, destinationPort: port }))).map((layer) => layer.kind);
  expect(kinds(5555)).toEqual(['ethernet', 'ipv4', 'udp', 'ipv4', 'tcp', 'data']);
  expect(kinds(5556)).toEqual(['ethernet', 'ipv4', 'udp', 'data']);
});

test.each([
  ['a bad inner header checksum', ipv4Packet(4, spoil(PING, 10), NODES), 'checksum BAD'],
  ['a bad TCP checksum', tcpPacket([1, 2]).with(36, 0x77), 'checksum BAD'],
  ['a partial checksum', tcpPacket([1, 2], {}, false), 'checksum partial (left for an offload)'],
  ['a UDP datagram without checksum', udpPacket([1]).with(26, 0).with(27, 0), 'no checksum'],
  ['a cut packet', tcpPacket([1, 2, 3]).subarray(0, 41), '2 bytes are not here'],
  ['a first fragment', ipv4Packet(17, [0, 1, 0, 2, 0, 9, 1, 2], { fragment: 0x2000 }), 'not verifiable'],
  ['a later fragment', ipv4Packet(17, [1, 2, 3], { fragment: 3 }), 'fragment at 24, the last'],
  ['nested rubbish', ipv4Packet(4, [0x60, 0, 0]), 'unreadable: too short for an IPv4 header'],
  ['IPv6 inside', ipv4Packet(4, [0x60, ...new Array(40).fill(0)]), 'unreadable: IP version 6, expected 4'],
])('one line tells: %s', (_name, packet, text) => {
  expect(describeFrame(frame(packet))).toContain(text);
});

function spoil(packet: Uint8Array, at: number): number[] {
  return [...packet.with(at, packet[at]! ^ 1)];
}

test('ICMP errors show what they quote, and do not take it for a tunnelled packet', () => {
  const quoted = tcpPacket([]).subarray(0, 28);
  const error = frame(icmpPacket(3, 4, 1440, [...quoted]));
  expect(explainFrame(error, { hex: false }).split('\n').slice(2)).toEqual([
    'ICMP               fragmentation needed, mtu 1440, checksum ok',
    'quoted IPv4        192.168.42.65 > 192.168.77.130, protocol 6 (TCP), ttl 63, id 4660, DF, 40 bytes, checksum ok, 12 bytes are not here',
    'quoted unreadable  8 bytes, the start of a TCP header',
  ]);
  expect(ipv4Layers(decodeFrame(error))).toHaveLength(1);
});

test('TCP flags, ECN and DSCP by name', () => {
  const packet = tcpPacket([], { flags: 0x52, tos: 0xb9, sequence: 0xffffffff });
  expect(explainFrame(packet, { link: 'ip', hex: false })).toContain('dscp 46, ECT(1)');
  expect(describeFrame(packet, { link: 'ip' })).toContain('SYN ACK ECE, seq 4294967295');
});

test('padding after the packet is named', () => {
  const layers = decodeFrame(frame(udpPacket([1]), new Array(17).fill(0)));
  expect(layers.at(-1)).toEqual({ kind: 'padding', offset: 14 + 29, length: 17 });
});

test('ARP in words', () => {
  const arp = bytes(
    'ff ff ff ff ff ff 02 00 00 00 00 01 08 06 00 01 08 00 06 04 00 01 02 00 00 00 00 01 0a 00 01 0b 00 00 00 00 00 00 0a 00 01 01',
  );
  expect(describeFrame(arp)).toBe('who has 10.0.1.1? tell 10.0.1.11');
});

test('decoding is total, and the layers lie one after another within the frame', () => {
  const start = fc.constantFrom('', ETHERNET, `${ETHERNET} 45 00 00 40 00 00 00 00 40 04 00 00`);
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 120 }), (head, tail) => {
      const view = Uint8Array.from([...bytes(head), ...tail]);
      let end = 0;
      for (const layer of decodeFrame(view)) {
        expect(layer.offset).toBeGreaterThanOrEqual(end);
        end = layer.offset + layer.length;
        expect(end).toBeLessThanOrEqual(view.length);
      }
      expect(describeFrame(view).length).toBeGreaterThan(0);
      expect(typeof explainFrame(view)).toBe('string');
    }),
  );
});

test('a hex dump has sixteen bytes a row', () => {
  expect(hexDump(bytes('00 41 7f'), 1)).toEqual([`  0001  41 7f${' '.repeat(42)}  A.`]);
});
