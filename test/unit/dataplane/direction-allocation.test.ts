/** The steady state allocates nothing per packet: garbage would be pauses in every flow at once. */
import { expect, test } from 'vitest';
import { bytesAllocatedPerCall } from '../../../src/bench/allocation.ts';
import { Counters, createCounterMemory } from '../../../src/dataplane/counters.ts';
import { Inbound } from '../../../src/dataplane/inbound.ts';
import { Outbound } from '../../../src/dataplane/outbound.ts';
import { PathState } from '../../../src/dataplane/path-state.ts';
import { RepeatingSource, SwallowingSink, steadyWaiter } from '../../../src/dataplane/steady-links.ts';
import { ForwardingTable } from '../../../src/fib/forwarding-table.ts';
import { SourceTable } from '../../../src/fib/source-table.ts';
import { PlainMemory } from '../../../src/io/memory-links.ts';
import { CONFIG, fromTun, PEER, SELF } from '../../helpers/memory-direction.ts';
import { ipv4Packet, tcpPacket, udpPacket, W1, W3 } from '../../helpers/packets.ts';

const BATCH = 32;
/** A round: some 35,000 packets. */
const STEPS = 1000;
const BYTES_PER_PACKET_MAX = 1;

/** Bytes of heap per packet on the wire; `inPackets` is the counter that tells how many a step is. */
function bytesPerPacket(step: () => unknown, counters: Counters, inPackets: string): number {
  step();
  const packets = counters.snapshot()[inPackets]!;
  return bytesAllocatedPerCall(step, STEPS, (BYTES_PER_PACKET_MAX * packets) / 2) / packets;
}

const bytes = (count: number) => Array.from({ length: count }, (_, i) => i & 255);

test('outbound: single packets and superpackets', () => {
  const memory = new PlainMemory(4 << 20);
  const single = fromTun(udpPacket(bytes(64)));
  const superpacket = fromTun(tcpPacket(bytes(5000), {}, false), [1, 1, 40, 0, 232, 3, 20, 0, 16, 0]);
  const source = new RepeatingSource(memory, [...Array(BATCH).fill(single), superpacket]);
  const counters = new Counters('outbound', createCounterMemory());
  const clock = () => performance.now();
  const table = new ForwardingTable(clock);
  table.replace(CONFIG);
  const sink = new SwallowingSink(memory);
  const paths = new PathState(clock);
  const outbound = new Outbound({
    memory,
    source,
    sink,
    waiter: steadyWaiter,
    table,
    paths,
    counters,
    clock,
  });
  expect(bytesPerPacket(() => outbound.step(), counters, 'outbound_in_device_packets')).toBeLessThan(
    BYTES_PER_PACKET_MAX,
  );
  expect(counters.snapshot().outbound_out_underlay_packets).toBe(
    counters.snapshot().outbound_in_device_packets,
  );
});

test('inbound: single packets and runs of a stream', () => {
  const memory = new PlainMemory(8 << 20);
  const back = { source: W3, destination: W1 };
  const wrap = (inner: Uint8Array) => ipv4Packet(4, [...inner], { source: PEER, destination: SELF });
  const stream = Array.from({ length: BATCH }, (_, i) =>
    wrap(tcpPacket(bytes(200), { ...back, id: i, sequence: i * 200 })),
  );
  const singles = Array.from({ length: BATCH }, (_, i) =>
    wrap(udpPacket(bytes(64), { ...back, sourcePort: i })),
  );
  const source = new RepeatingSource(memory, [...stream, ...singles]);
  const counters = new Counters('inbound', createCounterMemory());
  const table = new SourceTable(() => performance.now());
  table.replace(CONFIG);
  const sink = new SwallowingSink(memory);
  const inbound = new Inbound({ memory, source, sink, table, counters, udpSuperpackets: true });
  expect(bytesPerPacket(() => inbound.step(), counters, 'inbound_in_underlay_packets')).toBeLessThan(
    BYTES_PER_PACKET_MAX,
  );
  expect(counters.snapshot().inbound_out_device_packets).toBe(
    counters.snapshot().inbound_in_underlay_packets,
  );
});
