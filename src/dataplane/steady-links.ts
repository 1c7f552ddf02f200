/** Ends of a direction that never change: the same packets come in each time, and what goes out is forgotten. */
import {
  PacketBatch,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  PieceBatch,
  SEND_OK,
  SLOT_BYTES,
  type Waiter,
} from './ports.ts';

const SINK_PACKETS = 512;
const SINK_PIECES = 1024;

/** The loops write headers only, so only those are put back: the copying of payload is a kernel's work. */
const WRITTEN_BYTES = 160;

/** Of datagrams: the addresses of their outer header, and the size of those in each slot (UDP_GRO). */
export interface SteadyDatagrams {
  readonly sender: number;
  readonly destination: number;
  readonly segmentBytes: readonly number[];
}

/** Gives the same packets again and again. */
export class RepeatingSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PacketMemory;
  readonly #heads: readonly Uint8Array[];

  constructor(
    memory: PacketMemory,
    packets: readonly Uint8Array[],
    datagrams?: SteadyDatagrams,
    slotBytes = SLOT_BYTES,
  ) {
    this.#memory = memory;
    this.batch = new PacketBatch(memory, packets.length, slotBytes);
    // Datagrams have headers all over the slot.
    const written = datagrams ? Number.POSITIVE_INFINITY : WRITTEN_BYTES;
    this.#heads = packets.map((packet) => packet.subarray(0, written));
    packets.forEach((packet, i) => {
      memory.bytes.set(packet, this.batch.offset(i));
      this.batch.setLength(i, packet.length);
      if (datagrams === undefined) return;
      this.batch.setOuter(i, datagrams.sender, datagrams.destination, 0, datagrams.segmentBytes[i]!);
    });
  }

  receive(): number {
    for (let i = 0; i < this.#heads.length; i++)
      this.#memory.bytes.set(this.#heads[i]!, this.batch.offset(i));
    this.batch.count = this.#heads.length;
    return this.batch.count;
  }
}

export class SwallowingSink implements PacketSink {
  readonly batch: PieceBatch;
  readonly failure = SEND_OK;

  constructor(memory: PacketMemory) {
    this.batch = new PieceBatch(memory, SINK_PACKETS, SINK_PIECES);
  }

  send(from: number): number {
    return this.batch.packetCount - from;
  }
}

/** There is always something, and always room. */
export const steadyWaiter: Waiter = { wait: () => 0, waitForSink: () => true, wasQuiet: false };

/** Memory that no kernel sees. */
export class SteadyMemory implements PacketMemory {
  readonly bytes: Uint8Array;
  readonly base = 0;
  #used = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  allocate(size: number, alignment = 8): number {
    const offset = Math.ceil(this.#used / alignment) * alignment;
    if (offset + size > this.bytes.length) throw new Error(`bug: no ${size} bytes left at ${offset}`);
    this.#used = offset + size;
    return offset;
  }
}
