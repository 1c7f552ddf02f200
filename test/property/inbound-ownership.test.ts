/**
 * Two threads and one socket: whatever the order in which they run, and however the load changes, every packet
 * reaches the device once and in the order of arrival. The threads are the real inbound direction and ownership,
 * run in the steps of the loop; the test is the scheduler.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Counters, conservationGap, createCounterMemory } from '../../src/dataplane/counters.ts';
import { Inbound } from '../../src/dataplane/inbound.ts';
import {
  createOwnershipMemory,
  InboundOwnership,
  type ThreadNumber,
} from '../../src/dataplane/inbound-ownership.ts';
import { PacketBatch, type PacketSource, PieceBatch } from '../../src/dataplane/ports.ts';
import { SourceTable } from '../../src/fib/source-table.ts';
import { MemorySink, PlainMemory } from '../../src/io/memory-links.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { CONFIG, PEER, SELF } from '../helpers/memory-direction.ts';
import { ipv4Packet, udpPacket } from '../helpers/packets.ts';

const BATCH_PACKETS = 4;
const [W1, W3] = [ipv4('192.168.42.66'), ipv4('192.168.77.130')];
const PAYLOAD_BYTES = 4;

/** The socket: who asks takes from the one queue, as of a descriptor. */
class SharedQueue implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PlainMemory;
  readonly #queue: Uint8Array[];

  constructor(memory: PlainMemory, queue: Uint8Array[]) {
    this.#memory = memory;
    this.#queue = queue;
    this.batch = new PacketBatch(memory, BATCH_PACKETS);
  }

  receive(): number {
    const packets = this.#queue.splice(0, BATCH_PACKETS);
    packets.forEach((packet, i) => {
      this.#memory.bytes.set(packet, this.batch.offset(i));
      this.batch.setLength(i, packet.length);
    });
    this.batch.count = packets.length;
    return packets.length;
  }
}

class Host {
  readonly queue: Uint8Array[] = [];
  readonly delivered: number[] = [];
  readonly counters = [0, 1].map(() => new Counters('inbound', createCounterMemory()));
  sent = 0;
  handOvers = 0;
  #nowMs = 1000;
  readonly #workedMs = [0, 0];
  readonly #woken = [false, false];
  readonly #ownership = createOwnershipMemory();
  readonly #threads = ([0, 1] as const).map((self) => this.#thread(self));

  #thread(self: ThreadNumber) {
    const memory = new PlainMemory(2 << 20);
    const table = new SourceTable(() => this.#nowMs);
    table.replace(CONFIG);
    const sink = new MemorySink(memory, new PieceBatch(memory, 64, 128));
    const inbound = new Inbound({
      ...{ memory, sink, table },
      source: new SharedQueue(memory, this.queue),
      counters: this.counters[self]!,
      udpSuperpackets: false,
    });
    const ownership = new InboundOwnership({
      memory: this.#ownership,
      self,
      nowMs: this.#nowMs,
      receive: () => {},
      workedMs: () => this.#workedMs[self]!,
      sleptMs: () => 0,
      wakeOther: () => {
        this.#woken[1 - self] = true;
      },
    });
    ownership.takeOver();
    return { inbound, ownership, sink };
  }

  arrive(packets: number): void {
    for (let i = 0; i < packets; i++) {
      const payload = new Uint8Array(PAYLOAD_BYTES);
      new DataView(payload.buffer).setUint32(0, this.sent++);
      const inner = udpPacket([...payload], { source: W3, destination: W1 });
      this.queue.push(ipv4Packet(4, [...inner], { source: PEER, destination: SELF }));
    }
  }

  /** One turn of a thread's loop. */
  turn(self: ThreadNumber): void {
    const { inbound, ownership, sink } = this.#threads[self]!;
    if (ownership.settle(this.#nowMs)) this.handOvers++;
    if (this.#woken[self]) {
      this.#woken[self] = false;
      ownership.takeOver();
    }
    if (ownership.receives) inbound.step();
    for (const { bytes } of sink.sent.splice(0))
      this.delivered.push(new DataView(bytes.buffer).getUint32(bytes.length - PAYLOAD_BYTES));
    expect(this.#threads.filter((thread) => thread.ownership.receives).length).toBeLessThanOrEqual(1);
  }

  pass(ms: number, ...shares: readonly [number, number]): void {
    this.#nowMs += ms;
    for (const i of [0, 1] as const) this.#workedMs[i] = this.#workedMs[i]! + ms * shares[i];
  }
}

const share = fc.constantFrom(0, 0.2, 0.5, 0.8, 1);
const thread = fc.constantFrom<ThreadNumber>(0, 1);
type Move = (host: Host) => void;
const move: fc.Arbitrary<Move> = fc.oneof(
  fc.integer({ min: 1, max: 10 }).map(
    (packets): Move =>
      (host) =>
        host.arrive(packets),
  ),
  thread.map(
    (number): Move =>
      (host) =>
        host.turn(number),
  ),
  fc.tuple(fc.constantFrom(1, 6, 60, 150), share, share).map(
    ([ms, first, second]): Move =>
      (host) =>
        host.pass(ms, first, second),
  ),
);

test('a hand-over never loses, doubles or reorders packets', () => {
  let handOvers = 0;
  fc.assert(
    fc.property(fc.array(move, { maxLength: 120, size: 'max' }), (moves) => {
      const host = new Host();
      for (const one of moves) one(host);
      while (host.queue.length > 0) for (const number of [0, 1] as const) host.turn(number);
      expect(host.delivered).toEqual(Array.from({ length: host.sent }, (_, i) => i));
      for (const counters of host.counters) expect(conservationGap(counters.snapshot(), 'inbound')).toBe(0);
      handOvers += host.handOvers;
    }),
    { numRuns: 200 },
  );
  // That it was tried at all: some 140.
  expect(handOvers).toBeGreaterThan(20);
});
