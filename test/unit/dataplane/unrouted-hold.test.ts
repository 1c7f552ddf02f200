/** Packets that arrive before the message about their route: they wait, and no packet is lost or counted twice. */
import { expect, test } from 'vitest';
import { HOLD_MS } from '../../../src/dataplane/unrouted-hold.ts';
import type { ForwardingConfig } from '../../../src/fib/forwarding-config.ts';
import { CONFIG, fromTun, hex, makeOutbound, PEER } from '../../helpers/memory-direction.ts';
import { udpPacket } from '../../helpers/packets.ts';

const WITHOUT_ROUTE: ForwardingConfig = { ...CONFIG, entries: [] };
const ENTRY = CONFIG.entries[0]!;

test('a packet waits for its route, and leaves by it in the order of arrival', () => {
  const rig = makeOutbound(WITHOUT_ROUTE, 'hold');
  const packets = [udpPacket([1]), udpPacket([2, 3])];
  expect(rig.send(...packets.map((packet) => fromTun(packet)))).toEqual([]);
  expect(rig.moved()).toEqual({});
  rig.outbound.retryHeld();
  expect(rig.moved()).toEqual({});
  rig.table.apply({ op: 'set-entry', entry: ENTRY });
  rig.outbound.retryHeld();
  expect(rig.sink.sent.map(({ bytes }) => hex(bytes.slice(20)))).toEqual(packets.map(hex));
  expect(rig.sink.sent.map(({ destination }) => destination)).toEqual([PEER, PEER]);
  expect(rig.moved()).toMatchObject({ outbound_in_device_packets: 2, outbound_out_underlay_packets: 2 });
  const bytes = packets.reduce((sum, packet) => sum + packet.length, 0);
  expect(rig.counters.snapshot()).toMatchObject({ outbound_in_device_bytes: bytes });
  expect(rig.gap()).toBe(0);
});

test('it waits only so long, then it is a counted drop', () => {
  const rig = makeOutbound(WITHOUT_ROUTE, 'hold');
  rig.send(fromTun(udpPacket([1])));
  expect(rig.hold!.remainingMs()).toBe(HOLD_MS);
  rig.time.now += HOLD_MS - 1;
  rig.outbound.retryHeld();
  expect(rig.moved()).toEqual({});
  rig.time.now += 1;
  expect(rig.hold!.remainingMs()).toBe(0);
  rig.outbound.retryHeld();
  expect(rig.moved()).toEqual({ outbound_in_device_packets: 1, outbound_drop_no_route_packets: 1 });
  expect(rig.hold!.remainingMs()).toBe(-1);
});

test('room is bounded: what does not fit is dropped at once, and room is free again afterwards', () => {
  const rig = makeOutbound(WITHOUT_ROUTE, 'hold');
  for (let i = 0; i < 300; i++) rig.send(fromTun(udpPacket([i & 255])));
  const dropped = rig.counters.snapshot().outbound_drop_no_route_packets!;
  expect(dropped).toBe(300 - rig.hold!.count);
  expect(dropped).toBeGreaterThan(0);
  rig.table.apply({ op: 'set-entry', entry: ENTRY });
  rig.outbound.retryHeld();
  expect(rig.sink.sent).toHaveLength(300 - dropped);
  rig.table.apply({ op: 'delete-entry', prefix: ENTRY.prefix });
  rig.send(fromTun(udpPacket([1])));
  expect(rig.hold!.count).toBe(1);
  rig.outbound.retryHeld(true);
  expect(rig.hold!.count).toBe(0);
  expect(rig.gap()).toBe(0);
});
