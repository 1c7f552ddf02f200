/** Inbound on memory links: golden packets, every drop reason, what offloads leave, conservation. */
import { afterEach, expect, test } from 'vitest';
import { INBOUND_DROP_NAMES } from '../../../src/dataplane/counters.ts';
import * as ports from '../../../src/dataplane/ports.ts';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { hex, makeInbound, OTHER_PEER, PEER, SELF, STRANGER } from '../../helpers/memory-direction.ts';
import { type Ipv4Fields, ipv4Packet, tcpPacket, udpPacket, W1, W3 } from '../../helpers/packets.ts';

type Rig = ReturnType<typeof makeInbound>;
const rigs: Rig[] = [];

function rig(): Rig {
  const made = makeInbound();
  rigs.push(made);
  return made;
}

afterEach(() => {
  for (const made of rigs.splice(0)) expect(made.gap()).toBe(0);
});

const bytes = (count: number) => Array.from({ length: count }, (_, i) => i & 255);
/** From the peer's workload to ours. */
const BACK = { source: W3, destination: W1 };
const innerUdp = (fields: Ipv4Fields = {}) => udpPacket([1, 2, 3], { ...BACK, ...fields });
const outer = (inner: Uint8Array, fields: Ipv4Fields = {}) =>
  ipv4Packet(4, [...inner], { source: PEER, destination: SELF, ttl: 61, ...fields });

test('the inner packet arrives byte for byte, TTL untouched, padding cut off', () => {
  const inner = innerUdp();
  const padded = Uint8Array.from([...outer(inner), 0, 0, 0, 0, 0, 0]);
  const withOptions = outer(inner, { options: [1, 1, 1, 0] });
  const got = [outer(inner), padded, withOptions].flatMap((packet) => rig().receive(packet));
  for (const { vnet, packet } of got) {
    expect(hex(packet)).toBe(hex(inner));
    expect(vnet).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  }
  expect(got).toHaveLength(3);
});

test('congestion met on the underlay reaches the inner header, its checksum with it', () => {
  const [got] = rig().receive(outer(innerUdp({ tos: 2 }), { tos: 3 }));
  expect(hex(got!.packet)).toBe(hex(innerUdp({ tos: 3 })));
});

test('a partial checksum is marked as such, for the kernel to finish', () => {
  const [tcp, udp, complete] = rig().receive(
    outer(tcpPacket(bytes(100), BACK, false)),
    outer(udpPacket(bytes(100), BACK, false)),
    outer(tcpPacket(bytes(100), BACK)),
  );
  expect(tcp!.vnet).toEqual([1, 0, 40, 0, 0, 0, 20, 0, 16, 0]);
  expect(udp!.vnet).toEqual([1, 0, 28, 0, 0, 0, 20, 0, 6, 0]);
  expect(complete!.vnet).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test('a superpacket goes on as one, with the segments of a full path; CWR is told', () => {
  const r = rig();
  const options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
  const [plain, cwr] = r.receive(
    outer(tcpPacket(bytes(20_000), { ...BACK, tcpOptions: options }, false)),
    outer(tcpPacket(bytes(20_000), { ...BACK, flags: 0x90 }, false)),
  );
  expect(plain!.vnet).toEqual([1, 1, 52, 0, 1428 & 255, 1428 >> 8, 20, 0, 16, 0]);
  expect(cwr!.vnet).toEqual([1, 0x81, 40, 0, 1440 & 255, 1440 >> 8, 20, 0, 16, 0]);
  expect(r.moved()).toMatchObject({
    inbound_in_underlay_packets: 15 + 14,
    inbound_in_underlay_superpackets: 2,
    inbound_out_device_packets: 29,
  });
});

test('a stream arrives as one superpacket, and each of its packets is counted', () => {
  const r = rig();
  const segment = (i: number) => tcpPacket(bytes(1000), { ...BACK, id: 100 + i, sequence: 1 + i * 1000 });
  const got = r.receive(...[0, 1, 2].map((i) => outer(segment(i))));
  expect(got).toHaveLength(1);
  expect(got[0]!.vnet).toEqual([1, 1, 40, 0, 1000 & 255, 1000 >> 8, 20, 0, 16, 0]);
  expect([...got[0]!.packet.slice(40)]).toEqual([...bytes(1000), ...bytes(1000), ...bytes(1000)]);
  expect(r.moved()).toEqual({ inbound_in_underlay_packets: 3, inbound_out_device_packets: 3 });
  expect(r.counters.peers()[0]).toEqual([PEER, 3, 3040, 0, 0]);
});

test('a run that the device refuses is as many drops as it has packets', () => {
  const r = rig();
  r.sink.script.push(ports.SEND_DOWN);
  const segment = (i: number) => tcpPacket(bytes(1000), { ...BACK, id: 100 + i, sequence: 1 + i * 1000 });
  r.receive(...[0, 1, 2].map((i) => outer(segment(i))));
  expect(r.moved()).toEqual({ inbound_in_underlay_packets: 3, inbound_drop_device_down_packets: 3 });
});

test('a large packet with a complete checksum was reassembled, and is handed on whole', () => {
  const inner = udpPacket(bytes(8000), { ...BACK, fragment: 0 });
  const [got] = rig().receive(outer(inner));
  expect(hex(got!.packet)).toBe(hex(inner));
  expect(got!.vnet).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test('inner fragments pass as they are, whatever stands where a checksum would', () => {
  const fragment = ipv4Packet(17, [...bytes(16)], { ...BACK, fragment: 0x2010 });
  const [got] = rig().receive(outer(fragment));
  expect(hex(got!.packet)).toBe(hex(fragment));
});

test('an external host may send what no node owns', () => {
  const external = { source: ipv4('172.16.0.9') };
  expect(rig().receive(outer(innerUdp({ source: ipv4('192.168.200.1') }), external))).toHaveLength(1);
  expect(rig().receive(outer(innerUdp({ source: ipv4('8.8.8.8') }), external))).toHaveLength(1);
  expect(rig().receive(outer(innerUdp(), external))).toHaveLength(0);
});

test("a peer's own address is its to send", () => {
  expect(rig().receive(outer(innerUdp({ source: PEER })))).toHaveLength(1);
  expect(rig().receive(outer(innerUdp({ source: OTHER_PEER })))).toHaveLength(0);
});

const good = outer(innerUdp());
const damaged = innerUdp();
damaged[8]! ^= 1;

const DROPS: readonly { reason: string; packet?: Uint8Array; script?: number; spoofed?: boolean }[] = [
  { reason: 'outer_malformed', packet: good.slice(0, 30) },
  { reason: 'outer_malformed', packet: outer(innerUdp(), { fragment: 0x2000 }) },
  { reason: 'outer_not_for_us', packet: outer(innerUdp(), { destination: STRANGER }) },
  { reason: 'outer_source_unknown', packet: outer(innerUdp(), { source: STRANGER }) },
  { reason: 'inner_not_ipv4', packet: outer(Uint8Array.from([0x60, ...bytes(39)])) },
  { reason: 'inner_malformed', packet: outer(damaged) },
  { reason: 'inner_malformed', packet: outer(innerUdp().slice(0, 25)) },
  { reason: 'inner_source_local', packet: outer(innerUdp({ source: W1 })), spoofed: true },
  { reason: 'inner_source_foreign', packet: outer(innerUdp(), { source: OTHER_PEER }), spoofed: true },
  { reason: 'inner_source_unknown', packet: outer(innerUdp({ source: ipv4('8.8.8.8') })), spoofed: true },
  { reason: 'loop_nested', packet: outer(ipv4Packet(4, [...innerUdp()], { source: W3, destination: SELF })) },
  { reason: 'ecn_congestion', packet: outer(innerUdp({ tos: 0 }), { tos: 3 }) },
  { reason: 'segment_size_unknown', packet: outer(udpPacket(bytes(3000), BACK, false)) },
  { reason: 'device_full', script: ports.SEND_AGAIN },
  { reason: 'device_down', script: ports.SEND_DOWN },
  { reason: 'device_refused', script: ports.SEND_REFUSED },
];

test.each(DROPS)('$reason', ({ reason, packet = good, script, spoofed = false }) => {
  const r = rig();
  if (script !== undefined) r.sink.script.push(script);
  const got = [...r.receive(packet), ...r.receive(good)];
  expect(got.map((g) => hex(g.packet))).toEqual([hex(innerUdp())]);
  expect(r.moved()).toEqual({
    inbound_in_underlay_packets: 2,
    inbound_out_device_packets: 1,
    [`inbound_drop_${reason}_packets`]: 1,
  });
  const blamed = r.counters.peers().reduce((sum, row) => sum + row[4], 0);
  expect(blamed).toBe(spoofed ? 1 : 0);
});

test('every drop reason has its way above', () => {
  expect(INBOUND_DROP_NAMES.filter((name) => !DROPS.some((drop) => drop.reason === name))).toEqual([]);
});

test('no bytes at all, and all kinds of rubbish, are counted and harm nothing', () => {
  const r = rig();
  for (let length = 0; length < good.length; length++) r.receive(good.slice(0, length));
  for (let at = 0; at < 48; at++) {
    const changed = good.slice();
    changed[at]! ^= 0xff;
    r.receive(changed);
  }
  expect(r.counters.snapshot().inbound_in_underlay_packets).toBe(good.length + 48);
});
