/** The `udp` transport outbound, on memory links: which datagrams become one send, and what happens where they may not. */
import { afterEach, expect, test } from 'vitest';
import * as ports from '../../../src/dataplane/ports.ts';
import type { ForwardingConfig } from '../../../src/fib/forwarding-config.ts';
import type { UnderlayMtu } from '../../../src/ip/mtu.ts';
import { prefix } from '../../../src/ip/prefix.ts';
import { CONFIG, fromTun, hex, makeOutbound, OTHER_PEER, PEER } from '../../helpers/memory-direction.ts';
import { tcpPacket, udpPacket } from '../../helpers/packets.ts';
import { slowSegments } from '../../helpers/slow-segmentation.ts';

const mtu = 1500 as UnderlayMtu;
const BY_UDP: ForwardingConfig = {
  ...CONFIG,
  entries: [...CONFIG.entries, { prefix: prefix('192.168.88.0/26'), nextHops: [OTHER_PEER] }],
  peers: [
    { address: PEER, transport: 'udp', udpPort: 5555, mtu },
    { address: OTHER_PEER, transport: 'udp', udpPort: 7777, mtu },
  ],
};
const AT_OTHER_PEER = 0xc0a85801;

type Rig = ReturnType<typeof makeOutbound>;
const rigs: Rig[] = [];

function rig(config: ForwardingConfig = BY_UDP): Rig {
  const made = makeOutbound(config);
  rigs.push(made);
  return made;
}

afterEach(() => {
  for (const made of rigs.splice(0)) expect(made.gap()).toBe(0);
});

const bytes = (count: number) => Array.from({ length: count }, (_, i) => i & 255);
const joined = (packets: readonly Uint8Array[]) => packets.map(hex).join('');
const TCP_SUPERPACKET = tcpPacket(bytes(5000), {}, false);
const TCP_VNET = [1, 1, 40, 0, 232, 3, 20, 0, 16, 0]; // segments of 1000

test('a packet is the payload of a datagram to the port of its peer, its TOS outside', () => {
  const inner = udpPacket(bytes(20), { tos: 0xbb });
  const [sent] = rig().sendByUdp(fromTun(inner));
  expect(sent).toMatchObject({ destination: PEER, port: 5555, tos: 0xbb, segmentBytes: 0 });
  expect(hex(sent!.bytes)).toBe(hex(inner));
});

test('a superpacket is one send of segments', () => {
  const made = rig();
  const sent = made.sendByUdp(fromTun(TCP_SUPERPACKET, TCP_VNET));
  expect(sent).toHaveLength(1);
  expect(sent[0]).toMatchObject({ segmentBytes: 1040 });
  expect(hex(sent[0]!.bytes)).toBe(joined(slowSegments(TCP_SUPERPACKET, 1000)));
  expect(made.counters.snapshot()).toMatchObject({ outbound_out_underlay_packets: 5 });
});

test('small packets of one size to one peer are one send; a shorter one is its last', () => {
  const of = (size: number, destination?: number) =>
    udpPacket(bytes(size), destination === undefined ? {} : { destination });
  const packets = [of(64), of(64), of(64), of(10), of(64), of(65), of(65, AT_OTHER_PEER)];
  const sent = rig().sendByUdp(...packets.map((packet) => fromTun(packet)));
  expect(sent.map(({ port, segmentBytes, bytes: b }) => [port, segmentBytes, b.length])).toEqual([
    [5555, 92, 3 * 92 + 38],
    [5555, 0, 92],
    [5555, 0, 93],
    [7777, 0, 93],
  ]);
  expect(joined(sent.map((packet) => packet.bytes))).toBe(joined(packets));
});

test('packets of different TOS are different sends', () => {
  const sent = rig().sendByUdp(fromTun(udpPacket([1])), fromTun(udpPacket([1], { tos: 4 })));
  expect(sent.map(({ tos }) => tos)).toEqual([0, 4]);
});

test('what the kernel does not segment goes one by one, and is tried again later', () => {
  const made = rig();
  made.datagramSink.script.push(ports.SEND_OK, ports.SEND_UNSEGMENTED);
  const packets = [udpPacket(bytes(7)), udpPacket(bytes(90))];
  const sent = made.sendByUdp(fromTun(packets[0]!), fromTun(TCP_SUPERPACKET, TCP_VNET), fromTun(packets[1]!));
  const expected = [packets[0]!, ...slowSegments(TCP_SUPERPACKET, 1000), packets[1]!];
  expect(sent.map((packet) => hex(packet.bytes))).toEqual(expected.map(hex));
  expect(sent.every(({ segmentBytes, port }) => segmentBytes === 0 && port === 5555)).toBe(true);
  expect(made.sendByUdp(fromTun(TCP_SUPERPACKET, TCP_VNET))).toHaveLength(5);
  made.time.now += 10_000;
  made.sendByUdp(fromTun(packets[0]!));
  expect(made.sendByUdp(fromTun(TCP_SUPERPACKET, TCP_VNET))).toHaveLength(1);
  expect(made.counters.snapshot()).toMatchObject({ outbound_out_underlay_packets: 18 });
});

test('a refused send is as many drops as it has datagrams', () => {
  const made = rig();
  made.datagramSink.script.push(ports.SEND_FORBIDDEN);
  expect(made.sendByUdp(fromTun(TCP_SUPERPACKET, TCP_VNET))).toEqual([]);
  expect(made.moved()).toMatchObject({ outbound_drop_firewall_packets: 5 });
});

test('a peer by UDP where the transport is off, or with none in common, is a counted drop', () => {
  const peers = [{ address: PEER, transport: 'none' as const, udpPort: 0, mtu }];
  const made = rig({ ...BY_UDP, peers });
  expect(made.sendByUdp(fromTun(udpPacket([1])))).toEqual([]);
  expect(made.moved()).toMatchObject({ outbound_drop_no_transport_packets: 1 });
});

/** "Do not tidy": such packets were answered with "fragmentation needed", which their sender may not be told. */
test('without DF a superpacket that the path does not take is cut into segments, and those into fragments', () => {
  const narrow = {
    ...CONFIG,
    peers: [{ address: PEER, transport: 'ipip' as const, udpPort: 0, mtu: 600 as UnderlayMtu }],
  };
  const superpacket = tcpPacket(bytes(2500), { fragment: 0 }, false);
  const made = rig(narrow);
  const sent = made.send(fromTun(superpacket, TCP_VNET));
  // Segments of 1040, 1040 and 540 bytes; at most 580 - 20 of payload a fragment.
  expect(sent.map((packet) => packet.bytes.length)).toEqual([600, 500, 600, 500, 560]);
  const segments = slowSegments(superpacket, 1000);
  const first = [...sent[0]!.bytes.slice(40), ...sent[1]!.bytes.slice(40)];
  expect(hex(Uint8Array.from(first))).toBe(hex(segments[0]!.slice(20)));
  expect(hex(sent[4]!.bytes.slice(20))).toBe(hex(segments[2]!));
  expect(made.moved()).not.toHaveProperty('outbound_drop_too_big_packets');
  expect(made.moved()).not.toHaveProperty('outbound_reply_fragmentation_needed_packets');
});
