/** The steady state allocates nothing per packet: garbage would be pauses in every flow at once. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Counters, createCounterMemory } from '../../../src/dataplane/counters.ts';
import { Inbound } from '../../../src/dataplane/inbound.ts';
import { Outbound } from '../../../src/dataplane/outbound.ts';
import { PathState } from '../../../src/dataplane/path-state.ts';
import {
  PacketBatch,
  type PacketSink,
  type PacketSource,
  PieceBatch,
  SEND_OK,
} from '../../../src/dataplane/ports.ts';
import { ForwardingTable } from '../../../src/fib/forwarding-table.ts';
import { SourceTable } from '../../../src/fib/source-table.ts';
import { PlainMemory } from '../../../src/io/memory-links.ts';
import { CONFIG, fromTun, PEER, SELF } from '../../helpers/memory-direction.ts';
import { ipv4Packet, tcpPacket, udpPacket, W1, W3 } from '../../helpers/packets.ts';

const BATCH = 32;
const ROUNDS = 1000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Gives the same packets again and again, as the kernel would put them into the slots. */
class RepeatingSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PlainMemory;
  readonly #packets: readonly Uint8Array[];

  constructor(memory: PlainMemory, packets: readonly Uint8Array[]) {
    this.#memory = memory;
    this.#packets = packets;
    this.batch = new PacketBatch(memory, packets.length);
  }

  receive(): number {
    for (let i = 0; i < this.#packets.length; i++) {
      const packet = this.#packets[i]!;
      this.#memory.bytes.set(packet, this.batch.offset[i]!);
      this.batch.length[i] = packet.length;
    }
    this.batch.count = this.#packets.length;
    return this.batch.count;
  }
}

class SwallowingSink implements PacketSink {
  readonly batch = new PieceBatch(512, 1024);
  readonly failure = SEND_OK;

  send(from: number): number {
    return this.batch.packetCount - from;
  }
}

/** Bytes of heap per packet: the least of several runs, since compiling and the test's own frame allocate too. */
function bytesPerPacket(step: () => number, counters: Counters, inPackets: string): number {
  for (let i = 0; i < ROUNDS; i++) step();
  let least = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 12 && least >= 1; run++) {
    collectGarbage();
    const packetsBefore = counters.snapshot()[inPackets]!;
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < ROUNDS; i++) step();
    const after = process.memoryUsage().heapUsed;
    console.log(run, (after - before) / (counters.snapshot()[inPackets]! - packetsBefore));
    least = Math.min(least, Math.abs(after - before) / (counters.snapshot()[inPackets]! - packetsBefore));
  }
  return least;
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
  const sink = new SwallowingSink();
  const waiter = { wait: () => 0, waitForSink: () => true };
  const paths = new PathState(clock);
  const outbound = new Outbound({ memory, source, sink, waiter, table, paths, counters, clock });
  expect(bytesPerPacket(() => outbound.step(), counters, 'outbound_in_device_packets')).toBeLessThan(1);
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
  const sink = new SwallowingSink();
  const inbound = new Inbound({ memory, source, sink, table, counters, udpSuperpackets: true });
  expect(bytesPerPacket(() => inbound.step(), counters, 'inbound_in_underlay_packets')).toBeLessThan(1);
  expect(counters.snapshot().inbound_out_device_packets).toBe(
    counters.snapshot().inbound_in_underlay_packets,
  );
});
