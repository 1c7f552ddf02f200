/**
 * ICMP errors on their way to inner senders. They are queued while a batch is decided, since the packets they
 * quote still lie in their slots, and leave by the outer sink after it: the kernel routes them to the sender.
 * (Written to the TUN with an address of this host as source they would be martians.)
 */
import { UNREACHABLE_FRAGMENTATION_NEEDED, UNREACHABLE_HOST, UNREACHABLE_NET } from '../wire/icmpv4.ts';
import { ipv4Source } from '../wire/ipv4.ts';
import {
  type Counters,
  REPLY_FRAGMENTATION_NEEDED,
  REPLY_HOST_UNREACHABLE,
  REPLY_SUPPRESSED,
} from './counters.ts';
import { MAX_ICMP_ERROR_BYTES, mayAnswer, TokenBucket, writeIcmpError } from './icmp-errors.ts';
import type { MonotonicMs, PacketMemory, PieceBatch } from './ports.ts';

/** As many answers as one batch may cause; a sender that needs more hears of it in the next. */
const QUEUE_CAPACITY = 32;
const BLOB_BYTES = MAX_ICMP_ERROR_BYTES + 64;
/** Linux' own limit for ICMP errors of a host (icmp_msgs_per_sec, icmp_msgs_burst). */
const REPLIES_PER_SECOND = 1000;
const REPLIES_BURST = 50;
const ICMP_UNREACHABLE = 3;

export class InnerReplies {
  readonly #memory: PacketMemory;
  readonly #counters: Counters;
  readonly #clock: MonotonicMs;
  readonly #bucket: TokenBucket;
  readonly #blobs: number;
  readonly #code = new Int32Array(QUEUE_CAPACITY);
  readonly #mtu = new Int32Array(QUEUE_CAPACITY);
  readonly #offset = new Int32Array(QUEUE_CAPACITY);
  readonly #length = new Int32Array(QUEUE_CAPACITY);
  count = 0;

  constructor(memory: PacketMemory, counters: Counters, clock: MonotonicMs) {
    this.#memory = memory;
    this.#counters = counters;
    this.#clock = clock;
    this.#bucket = new TokenBucket(REPLIES_PER_SECOND, REPLIES_BURST, clock());
    this.#blobs = memory.allocate(QUEUE_CAPACITY * BLOB_BYTES, 64);
  }

  /** Packets of up to `innerMtu` bytes would get through. */
  fragmentationNeeded(offset: number, length: number, innerMtu: number): void {
    this.#queue(UNREACHABLE_FRAGMENTATION_NEEDED, innerMtu, offset, length);
  }

  hostUnreachable(offset: number, length: number): void {
    this.#queue(UNREACHABLE_HOST, 0, offset, length);
  }

  netUnreachable(offset: number, length: number): void {
    this.#queue(UNREACHABLE_NET, 0, offset, length);
  }

  /** Writes what is queued into the sink's batch; `from` is the source, 0 for the kernel's choice. */
  emit(batch: PieceBatch, from: number): void {
    const view = this.#memory.bytes;
    for (let i = 0; i < this.count; i++) {
      const blob = this.#blobs + i * BLOB_BYTES;
      const offset = this.#offset[i]!;
      const code = this.#code[i]!;
      const length = writeIcmpError(
        view,
        blob,
        ICMP_UNREACHABLE,
        code,
        this.#mtu[i]!,
        from,
        view,
        offset,
        this.#length[i]!,
      );
      batch.addPiece(blob, length);
      batch.endPacket(ipv4Source(view, offset));
      this.#counters.add(
        code === UNREACHABLE_FRAGMENTATION_NEEDED ? REPLY_FRAGMENTATION_NEEDED : REPLY_HOST_UNREACHABLE,
        1,
      );
    }
    this.count = 0;
  }

  #queue(code: number, mtu: number, offset: number, length: number): void {
    if (!mayAnswer(this.#memory.bytes, offset, length)) return;
    if (this.count === QUEUE_CAPACITY || !this.#bucket.take(this.#clock())) {
      this.#counters.add(REPLY_SUPPRESSED, 1);
      return;
    }
    const i = this.count++;
    this.#code[i] = code;
    this.#mtu[i] = mtu;
    this.#offset[i] = offset;
    this.#length[i] = length;
  }
}
