/** Ends of a direction that never change: the same packets come in each time, and what goes out is forgotten. */
import {
  PacketBatch,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  PieceBatch,
  SEND_OK,
  type Waiter,
} from '../dataplane/ports.ts';

const SINK_PACKETS = 512;
const SINK_PIECES = 1024;

/** The loops write headers only, so only those are put back: the copying of payload is a kernel's work. */
const WRITTEN_BYTES = 160;

/** Gives the same packets again and again. */
export class RepeatingSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PacketMemory;
  readonly #heads: readonly Uint8Array[];

  /** `segmentBytes`: of the datagrams that each packet is made of, where the kernel merged some (UDP_GRO). */
  constructor(memory: PacketMemory, packets: readonly Uint8Array[], segmentBytes = 0) {
    this.#memory = memory;
    this.batch = new PacketBatch(memory, packets.length);
    // Datagrams have headers all over the slot.
    const written = segmentBytes === 0 ? WRITTEN_BYTES : Number.POSITIVE_INFINITY;
    this.#heads = packets.map((packet) => packet.subarray(0, written));
    packets.forEach((packet, i) => {
      memory.bytes.set(packet, this.batch.offset[i]!);
      this.batch.length[i] = packet.length;
      this.batch.segmentBytes[i] = segmentBytes;
    });
  }

  receive(): number {
    for (let i = 0; i < this.#heads.length; i++)
      this.#memory.bytes.set(this.#heads[i]!, this.batch.offset[i]!);
    this.batch.count = this.#heads.length;
    return this.batch.count;
  }
}

export class SwallowingSink implements PacketSink {
  readonly batch = new PieceBatch(SINK_PACKETS, SINK_PIECES);
  readonly failure = SEND_OK;

  send(from: number): number {
    return this.batch.packetCount - from;
  }
}

/** There is always something, and always room. */
export const steadyWaiter: Waiter = { wait: () => 0, waitForSink: () => true };
