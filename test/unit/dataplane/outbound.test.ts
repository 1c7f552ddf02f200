/** Outbound on memory links: golden packets, every drop reason, answers to inner senders, conservation. */
import { afterEach, expect, test } from 'vitest';
import { OUTBOUND_DROP_NAMES } from '../../../src/dataplane/counters.ts';
import * as ports from '../../../src/dataplane/ports.ts';
import type { ForwardingConfig } from '../../../src/fib/forwarding-config.ts';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { prefix } from '../../../src/ip/prefix.ts';
import { CONFIG, fromTun, hex, makeOutbound, PEER, SELF } from '../../helpers/memory-direction.ts';
import { icmpPacket, ipv4Packet, tcpPacket, udpPacket, W1, W3 } from '../../helpers/packets.ts';

type Rig = ReturnType<typeof makeOutbound>;
const rigs: Rig[] = [];

function rig(config?: ForwardingConfig): Rig {
  const made = makeOutbound(config);
  rigs.push(made);
  return made;
}

afterEach(() => {
  for (const made of rigs.splice(0)) expect(made.gap()).toBe(0);
});

const withEntry = (entry: ForwardingConfig['entries'][number]): ForwardingConfig => ({
  ...CONFIG,
  entries: [entry],
});
const bytes = (count: number) => Array.from({ length: count }, (_, i) => i & 255);

test('the inner packet follows the outer header of the reference vectors, byte for byte', () => {
  const inner = icmpPacket(8, 0, 0x00010001, bytes(56));
  expect(hex(inner.slice(0, 20))).toBe('450000541234400 03f013061c0a82a41c0a84d82'.replace(' ', ''));
  const [sent] = rig().send(fromTun(inner));
  expect(sent!.destination).toBe(PEER);
  expect(hex(sent!.bytes)).toBe(`450000680000400040 04217a0a00020f0a00030a`.replace(' ', '') + hex(inner));
});

test('DSCP and ECN are copied to the outer header, DF only where it is set', () => {
  const [marked, fragmentable] = rig().send(
    fromTun(udpPacket([1], { tos: 0xbb })),
    fromTun(udpPacket([1], { fragment: 0 })),
  );
  expect(marked!.bytes[1]).toBe(0xbb);
  expect(marked!.bytes[6]).toBe(0x40);
  expect(fragmentable!.bytes[6]).toBe(0);
});

test('a checksum that the kernel left partial is finished before the packet leaves', () => {
  const partial = [1, 0, 0, 0, 0, 0, 20, 0];
  for (const [make, offset] of [
    [tcpPacket, 16],
    [udpPacket, 6],
  ] as const) {
    const [sent] = rig().send(fromTun(make(bytes(33), {}, false), [...partial, offset, 0]));
    expect(hex(sent!.bytes.slice(20))).toBe(hex(make(bytes(33))));
  }
});

/** virtio-net header of a superpacket: checksum partial, TCP or UDP, segments of `size`. */
const gso = (type: number, size: number, offset: number) => [
  1,
  type,
  40,
  0,
  size & 255,
  size >> 8,
  20,
  0,
  offset,
  0,
];

test('a superpacket leaves as the packets that its sender would have sent, each wrapped', () => {
  const r = rig();
  const payload = bytes(2500);
  const sent = r.send(fromTun(tcpPacket(payload, { flags: 0x18 }, false), gso(1, 1000, 16)));
  const expected = [0, 1, 2].map((i) =>
    tcpPacket(payload.slice(i * 1000, (i + 1) * 1000), {
      id: 0x1234 + i,
      sequence: 1 + i * 1000,
      flags: i === 2 ? 0x18 : 0x10,
    }),
  );
  expect(sent.map(({ bytes: b }) => hex(b.slice(20)))).toEqual(expected.map(hex));
  expect(sent.map(({ bytes: b }) => b.length)).toEqual(expected.map((packet) => packet.length + 20));
  expect(sent.every(({ destination, bytes: b }) => destination === PEER && b[9] === 4 && b[6] === 0x40)).toBe(
    true,
  );
  expect(r.moved()).toEqual({
    outbound_in_device_packets: 3,
    outbound_in_device_superpackets: 1,
    outbound_out_underlay_packets: 3,
  });
});

test('datagrams of a UDP superpacket keep their borders', () => {
  const sent = rig().send(fromTun(udpPacket(bytes(250), {}, false), gso(5, 100, 6)));
  const expected = [0, 1, 2].map((i) =>
    udpPacket(bytes(250).slice(i * 100, (i + 1) * 100), { id: 0x1234 + i }),
  );
  expect(sent.map(({ bytes: b }) => hex(b.slice(20)))).toEqual(expected.map(hex));
});

test('a superpacket of more segments than a send holds leaves in several', () => {
  const sent = rig().send(fromTun(tcpPacket(bytes(60_000), {}, false), gso(1, 500, 16)));
  expect(sent).toHaveLength(120);
  expect(sent.flatMap(({ bytes: b }) => [...b.slice(60)])).toEqual(bytes(60_000));
});

test('a superpacket whose segments are too big, or that makes no sense, is as many drops as segments', () => {
  const r = rig();
  const [reply] = r.send(fromTun(tcpPacket(bytes(14_600), {}, false), gso(1, 1460, 16)));
  expect([...reply!.bytes.slice(20, 22)]).toEqual([3, 4]);
  r.send(fromTun(tcpPacket(bytes(3000), {}, false), gso(4, 1000, 16)));
  expect(r.moved()).toEqual({
    outbound_in_device_packets: 11,
    outbound_in_device_superpackets: 1,
    outbound_drop_too_big_packets: 10,
    outbound_drop_malformed_packets: 1,
    outbound_reply_fragmentation_needed_packets: 1,
  });
});

test('a packet larger than the path takes is answered with the MTU that fits, and DF=0 is fragmented', () => {
  const r = rig();
  const tooBig = udpPacket(bytes(1480 - 28 + 1));
  const [reply] = r.send(fromTun(tooBig));
  expect(reply!.destination).toBe(W1);
  expect(hex(reply!.bytes.slice(12, 16))).toBe('0a00020f');
  expect([...reply!.bytes.slice(20, 22)]).toEqual([3, 4]);
  expect(reply!.bytes[26]! * 256 + reply!.bytes[27]!).toBe(1480);
  expect(hex(reply!.bytes.slice(28, 28 + 28))).toBe(hex(tooBig.slice(0, 28)));
  expect(r.moved()).toEqual({
    outbound_in_device_packets: 1,
    outbound_drop_too_big_packets: 1,
    outbound_reply_fragmentation_needed_packets: 1,
  });
  expect(r.send(fromTun(udpPacket(bytes(1480 - 28))))).toHaveLength(1);
});

test('fragments carry the whole payload at the right offsets, each within the path', () => {
  const r = rig();
  const options = [0x83, 7, 4, 10, 0, 0, 1, 0x07, 7, 4, 0, 0, 0, 0, 0, 0];
  const payload = bytes(4000);
  const sent = r.send(fromTun(ipv4Packet(200, payload, { fragment: 0, options })));
  const inner = sent.map(({ bytes: b }) => b.slice(20));
  expect(sent.every(({ bytes: b }) => b.length <= 1500)).toBe(true);
  expect(inner.map((b) => (b[6]! & 0x20) !== 0)).toEqual([true, true, false]);
  const rebuilt = inner.flatMap((b) => [...b.slice((b[0]! & 15) * 4)]);
  expect(rebuilt).toEqual(payload);
  const offsets = inner.map((b) => (((b[6]! & 0x1f) << 8) | b[7]!) * 8);
  const lengths = inner.map((b) => b.length - 36);
  expect(offsets).toEqual([0, lengths[0]!, lengths[0]! + lengths[1]!]);
  // The loose source route (0x83) is copied, the record route (7) is not.
  expect(inner.map((b) => [b[20], b[27]])).toEqual([
    [0x83, 7],
    [0x83, 1],
    [0x83, 1],
  ]);
  expect(r.moved()).toEqual({ outbound_in_device_packets: 3, outbound_out_underlay_packets: 3 });
});

const udp = fromTun(udpPacket([1, 2, 3]));
const nested = (source: number, destination: number) =>
  fromTun(ipv4Packet(4, [...udpPacket([1], { destination: ipv4('172.20.0.1') })], { source, destination }));

/** One way to each reason. `script`: what the kernel does with the packet. */
const DROPS: readonly { reason: string; packet?: Uint8Array; config?: ForwardingConfig; script?: number }[] =
  [
    { reason: 'not_ipv4', packet: fromTun(Uint8Array.from([0x60, ...bytes(39)])) },
    { reason: 'malformed', packet: fromTun(udpPacket([1]).slice(0, 24)) },
    { reason: 'ttl_zero', packet: fromTun(udpPacket([1], { ttl: 0 })) },
    { reason: 'no_route', packet: fromTun(udpPacket([1], { destination: ipv4('192.168.99.1') })) },
    {
      reason: 'no_peer',
      config: withEntry({ prefix: prefix('192.168.77.128/26'), nextHops: [ipv4('10.0.3.99')] }),
    },
    { reason: 'no_transport', config: { ...CONFIG, peers: [{ ...CONFIG.peers[0]!, transport: 'none' }] } },
    { reason: 'loop_nested', packet: nested(SELF, W3) },
    { reason: 'loop_nested', packet: nested(W1, PEER) },
    { reason: 'loop_local', config: withEntry({ prefix: prefix('192.168.77.128/26'), nextHops: [SELF] }) },
    { reason: 'too_big', packet: fromTun(udpPacket(bytes(1460))) },
    { reason: 'buffer_full', script: ports.SEND_AGAIN },
    { reason: 'link_mtu', script: ports.SEND_TOO_BIG },
    { reason: 'no_underlay_route', script: ports.SEND_NO_ROUTE },
    { reason: 'firewall', script: ports.SEND_FORBIDDEN },
    { reason: 'link_down', script: ports.SEND_DOWN },
    { reason: 'refused', script: ports.SEND_REFUSED },
  ];

test.each(DROPS)('$reason', ({ reason, packet = udp, config = CONFIG, script }) => {
  const r = rig(config);
  r.waiter.sinkRecovers = false;
  if (script !== undefined) r.sink.script.push(script);
  r.send(packet, packet);
  const gone = script === undefined ? 2 : 1;
  expect(r.moved()).toMatchObject({
    outbound_in_device_packets: 2,
    [`outbound_drop_${reason}_packets`]: gone,
  });
  expect(r.counters.snapshot().outbound_out_underlay_packets).toBe(2 - gone);
});

test('every drop reason has its way above', () => {
  expect(OUTBOUND_DROP_NAMES.filter((name) => !DROPS.some((drop) => drop.reason === name))).toEqual([]);
});

test('a nested tunnel between two workloads is theirs, and passes', () => {
  expect(rig().send(nested(W1, W3))).toHaveLength(1);
});

test('a route without gateway sends to the inner destination, and its own packet not again', () => {
  const r = rig(withEntry({ prefix: prefix('192.168.77.128/26'), nextHops: 'inner-destination' }));
  const [sent] = r.send(udp);
  expect(sent!.destination).toBe(W3);
  expect(r.send(fromTun(sent!.bytes))).toEqual([]);
  expect(r.send(fromTun(ipv4Packet(4, [...udpPacket([1])])))).toEqual([]);
  expect(r.moved()).toMatchObject({ outbound_drop_loop_nested_packets: 2 });
});

test('a full socket buffer is waited for, and nothing is lost when it empties', () => {
  const r = rig();
  r.sink.script.push(ports.SEND_OK, ports.SEND_AGAIN);
  expect(r.send(udp, udp, udp)).toHaveLength(3);
  expect(r.waiter.sinkWaits).toBe(1);
});

test('more packets than a send holds leave in several', () => {
  const r = rig();
  const packets = Array.from({ length: 8 }, () => fromTun(udpPacket(bytes(9000), { fragment: 0 })));
  expect(r.send(...packets)).toHaveLength(8 * 7);
});

/** An ICMP error of a router about an outer packet of ours, quoting `quoted` bytes of it. */
function aboutOurs(type: number, code: number, rest: number, quotedInner: number): Uint8Array {
  const outer = makeOutbound().send(fromTun(udpPacket(bytes(1400))))[0]!.bytes;
  return icmpPacket(type, code, rest, [...outer.slice(0, 20 + quotedInner)], {
    source: ipv4('10.0.2.1'),
    destination: SELF,
  });
}

test('a path MTU from ICMP is told at once where enough is quoted, and holds for ten minutes', () => {
  const r = rig();
  const [relayed] = r.hear(aboutOurs(3, 4, 1400, 28));
  expect([relayed!.destination, relayed!.bytes[20], relayed!.bytes[21], relayed!.bytes[27]]).toEqual([
    W1,
    3,
    4,
    1380 & 255,
  ]);
  const big = fromTun(udpPacket(bytes(1380 - 28 + 1)));
  const [answer] = r.send(big);
  expect([answer!.destination, answer!.bytes[20], answer!.bytes[21]]).toEqual([W1, 3, 4]);
  expect(r.send(fromTun(udpPacket(bytes(1380 - 28))))[0]!.destination).toBe(PEER);
  expect(r.counters.peers()[0]).toEqual([PEER, 1, 1380, 1, 1400]);
  r.time.now += 10 * 60 * 1000;
  expect(r.send(big)[0]!.destination).toBe(PEER);
});

test('a packet refused in the batch that made a router speak: its path MTU is the one reported, not a plateau below', () => {
  const r = rig();
  r.leave(aboutOurs(3, 4, 1400, 28));
  r.sink.script.push(ports.SEND_TOO_BIG);
  r.send(fromTun(udpPacket(bytes(1400))));
  expect(r.counters.peers()[0]![4]).toBe(1400);
  expect(r.send(fromTun(udpPacket(bytes(1380 - 28))))[0]!.destination).toBe(PEER);
});

test('a router that quotes too little: the next packet is answered from what was learned', () => {
  const r = rig();
  expect(r.hear(aboutOurs(3, 1, 0, 8))).toEqual([]);
  const sent = r.send(udp, udp);
  expect(sent.map((packet) => packet.destination)).toEqual([PEER, PEER, W1]);
  expect([...sent[2]!.bytes.slice(20, 22)]).toEqual([3, 1]);
});

test('a peer without a listener (protocol unreachable) is an unreachable host to inner senders', () => {
  const [relayed] = rig().hear(aboutOurs(3, 2, 0, 28));
  expect([...relayed!.bytes.slice(20, 22)]).toEqual([3, 1]);
});

test('ICMP that is not about our packets, or is broken, changes nothing', () => {
  const r = rig();
  const ours = aboutOurs(3, 4, 600, 28);
  const foreign = ours.slice();
  foreign[28 + 12] = 11;
  const broken = ours.slice();
  broken[25]! ^= 1;
  for (const message of [foreign, broken, ours.slice(0, 30), icmpPacket(3, 4, 600, [...udpPacket([1])])])
    expect(r.hear(message)).toEqual([]);
  expect(r.send(fromTun(udpPacket(bytes(1452))))[0]!.destination).toBe(PEER);
});

test('answers are limited in rate', () => {
  const r = rig();
  const tooBig = fromTun(udpPacket(bytes(1460)));
  for (let i = 0; i < 40; i++) r.send(tooBig, tooBig);
  expect(r.moved()).toMatchObject({
    outbound_reply_fragmentation_needed_packets: 50,
    outbound_reply_suppressed_packets: 30,
  });
});
