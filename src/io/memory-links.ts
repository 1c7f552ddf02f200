/**
 * The ports of the packet loops in plain memory, for tests: what is pushed into a source comes out of its
 * receive, and a sink keeps what it was given. The same contract suite holds these and the real ones.
 */
import {
  type PacketBatch,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  type PieceBatch,
  READY_SOURCE,
  SEND_OK,
  type Waiter,
} from '../dataplane/ports.ts';

/** An arena that no kernel sees. */
export class PlainMemory implements PacketMemory {
  readonly bytes: Uint8Array;
  readonly base = 0;
  #used = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  allocate(size: number, alignment = 8): number {
    const offset = Math.ceil(this.#used / alignment) * alignment;
    if (offset + size > this.bytes.length) throw new Error(`bug: no ${size} bytes left at ${offset}`);
    this.#used = offset + size;
    return offset;
  }
}

export class MemorySource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PacketMemory;
  readonly #waiting: Uint8Array[] = [];

  constructor(memory: PacketMemory, batch: PacketBatch) {
    this.#memory = memory;
    this.batch = batch;
  }

  /** A packet arrives. */
  push(packet: Uint8Array): void {
    this.#waiting.push(packet);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  receive(): number {
    const { batch } = this;
    const packets = this.#waiting.splice(0, batch.capacity);
    packets.forEach((packet, i) => {
      this.#memory.bytes.set(packet, batch.offset(i));
      batch.setLength(i, packet.length);
    });
    batch.count = packets.length;
    return packets.length;
  }
}

export interface SentPacket {
  readonly destination: number;
  /** Of the `udp` transport: port, outer TOS, and the size of the datagrams where they are several. */
  readonly port: number;
  readonly tos: number;
  readonly segmentBytes: number;
  readonly bytes: Uint8Array;
}

export class MemorySink implements PacketSink {
  readonly batch: PieceBatch;
  failure = SEND_OK;
  readonly sent: SentPacket[] = [];
  /** What is to happen to the next packets, one each: SEND_OK lets it through. Empty: all pass. */
  readonly script: number[] = [];
  readonly #memory: PacketMemory;

  constructor(memory: PacketMemory, batch: PieceBatch) {
    this.#memory = memory;
    this.batch = batch;
  }

  send(from: number): number {
    this.failure = SEND_OK;
    for (let packet = from; packet < this.batch.packetCount; packet++) {
      this.failure = this.script.shift() ?? SEND_OK;
      if (this.failure !== SEND_OK) return packet - from;
      const { batch } = this;
      this.sent.push({
        destination: batch.destination(packet) >>> 0,
        port: batch.port(packet),
        tos: batch.tos(packet),
        segmentBytes: batch.segmentBytes(packet),
        bytes: this.#gather(packet),
      });
    }
    return this.batch.packetCount - from;
  }

  #gather(packet: number): Uint8Array {
    const { batch } = this;
    const end = batch.endPiece(packet);
    const bytes: number[] = [];
    for (let piece = batch.firstPiece(packet); piece < end; piece++) {
      const offset = batch.offset(piece);
      bytes.push(...this.#memory.bytes.subarray(offset, offset + batch.length(piece)));
    }
    return Uint8Array.from(bytes);
  }
}

export class MemoryWaiter implements Waiter {
  readonly wasQuiet = false;
  readonly #source: MemorySource;
  /** What waitForSink answers. */
  sinkRecovers = true;
  /** How often somebody waited for the sink. */
  sinkWaits = 0;

  constructor(source: MemorySource) {
    this.#source = source;
  }

  wait(): number {
    return this.#source.waiting > 0 ? READY_SOURCE : 0;
  }

  waitForSink(): boolean {
    this.sinkWaits++;
    return this.sinkRecovers;
  }
}
