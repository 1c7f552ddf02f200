/**
 * What the packet loops need of the world; `io` implements it with sockets and the TUN, and with memory for tests.
 *
 * Each direction has one arena, its sources and sinks, and is run by one thread at a time:
 *
 *     outbound: TUN source -> PacketBatch -> decide, segment, encapsulate -> PieceBatch -> outer sink
 *     inbound:  outer source -> PacketBatch -> check, decapsulate, coalesce -> PieceBatch -> TUN sink
 *
 * A packet never moves: the source puts it into a slot of the arena, the loop writes headers (into the slot's
 * headroom, or into blobs of its own) and hands on pieces {offset, length} of the arena, and the sink gathers
 * them. Slots are reused by the next receive, so everything is sent, or dropped and counted, before it.
 */

/** Memory with a fixed place, handed out once at set-up. */
export interface PacketMemory {
  readonly bytes: Uint8Array;
  allocate(size: number, alignment?: number): number;
}

/** What the kernel may hand over at once: the largest IPv4 packet, and the virtio-net header before it. */
export const SLOT_BYTES = 65_536 + 64;
/** Free bytes before a slot's packet: an outer IPv4 and UDP header, a virtio-net header, and room to align. */
export const HEADROOM_BYTES = 64;

/** The packets of one receive. Packet i is `length[i]` bytes at `slot(i)`. */
export class PacketBatch {
  readonly capacity: number;
  count = 0;
  /** Where slot i begins; HEADROOM_BYTES before it are the loop's to write. */
  readonly offset: Int32Array;
  /** Bytes received; at most `slotBytes`. */
  readonly length: Int32Array;
  /** Outer source as the socket tells it; sources that deliver the outer header (raw, packet) leave 0. */
  readonly sender: Uint32Array;
  /** The same of the outer destination and TOS. */
  readonly destination: Uint32Array;
  readonly tos: Uint8Array;
  /** UDP_GRO: the slot holds datagrams of this many bytes one after another; 0 where it holds one. */
  readonly segmentBytes: Int32Array;

  constructor(memory: PacketMemory, capacity: number, slotBytes = SLOT_BYTES) {
    this.capacity = capacity;
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
    this.sender = new Uint32Array(capacity);
    this.destination = new Uint32Array(capacity);
    this.tos = new Uint8Array(capacity);
    this.segmentBytes = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++)
      this.offset[i] = memory.allocate(HEADROOM_BYTES + slotBytes, 64) + HEADROOM_BYTES;
  }
}

/** Packets to send in one go, each a list of pieces of the arena that the sink gathers. */
export class PieceBatch {
  readonly packetCapacity: number;
  readonly pieceCapacity: number;
  packetCount = 0;
  pieceCount = 0;
  /** Packet p owns the pieces firstPiece[p] until firstPiece[p + 1]. */
  readonly firstPiece: Int32Array;
  /** Outer destination, for sinks that address each packet; of frames, the interface. */
  readonly destination: Uint32Array;
  /** Of the `udp` transport: destination port, outer TOS, and the UDP_SEGMENT size of a packet that is several datagrams. */
  readonly port: Int32Array;
  readonly tos: Uint8Array;
  readonly segmentBytes: Int32Array;
  /** Its outer source; 0 lets the kernel choose. */
  source = 0;
  readonly offset: Int32Array;
  readonly length: Int32Array;

  constructor(packetCapacity: number, pieceCapacity: number) {
    this.packetCapacity = packetCapacity;
    this.pieceCapacity = pieceCapacity;
    this.firstPiece = new Int32Array(packetCapacity + 1);
    this.destination = new Uint32Array(packetCapacity);
    this.port = new Int32Array(packetCapacity);
    this.tos = new Uint8Array(packetCapacity);
    this.segmentBytes = new Int32Array(packetCapacity);
    this.offset = new Int32Array(pieceCapacity);
    this.length = new Int32Array(pieceCapacity);
  }

  clear(): void {
    this.packetCount = 0;
    this.pieceCount = 0;
    this.firstPiece[0] = 0;
  }

  /** Whether one more packet of `pieces` pieces fits. */
  hasRoom(pieces: number): boolean {
    return this.packetCount < this.packetCapacity && this.pieceCount + pieces <= this.pieceCapacity;
  }

  /** Adds a piece to the packet that `endPacket` will complete. */
  addPiece(offset: number, length: number): void {
    const piece = this.pieceCount++;
    this.offset[piece] = offset;
    this.length[piece] = length;
  }

  /** Completes a packet from the pieces added since the last one; returns its index. */
  endPacket(destination: number): number {
    const packet = this.packetCount++;
    this.destination[packet] = destination;
    this.port[packet] = 0;
    this.tos[packet] = 0;
    this.segmentBytes[packet] = 0;
    this.firstPiece[packet + 1] = this.pieceCount;
    return packet;
  }

  /** Gives the pieces added since the last packet to that packet instead. */
  extendPacket(): void {
    this.firstPiece[this.packetCount] = this.pieceCount;
  }
}

/**
 * Fills its batch with what is there, without blocking; returns `batch.count`, 0 where there is nothing. `most`: as many
 * as are worth asking for one by one; a source that gets all by one call may give more.
 */
export interface PacketSource {
  readonly batch: PacketBatch;
  receive(most?: number): number;
}

/** Why a sink took no more packets. */
export const SEND_OK = 0;
/** Kernel buffers are full for the moment. */
export const SEND_AGAIN = 1;
/** Larger than the link takes. */
export const SEND_TOO_BIG = 2;
/** The host has no route to the destination, or its neighbour does not answer. */
export const SEND_NO_ROUTE = 3;
/** The host's firewall forbids it. */
export const SEND_FORBIDDEN = 4;
/** The device or link is down. */
export const SEND_DOWN = 5;
/** Refused for another reason. */
export const SEND_REFUSED = 6;
/** Several datagrams were not taken as one packet: the device or the kernel cannot segment. Each for itself may pass. */
export const SEND_UNSEGMENTED = 7;

/** Sends its batch's packets in order. */
export interface PacketSink {
  readonly batch: PieceBatch;
  /** Sends from packet `from` on and returns how many were taken; where fewer than all, `failure` says why. */
  send(from: number): number;
  readonly failure: number;
}

/** Bits of what `wait` found: a wake-up; `READY_SOURCE << i`: source i has something. */
export const READY_WAKE = 1;
/** Source 0 reports an error, which the next receive may clear. */
export const READY_BROKEN = 2;
export const READY_SOURCE = 4;

/** Blocks the thread until there is something to do. */
export interface Waiter {
  /**
   * Waits for packets or a wake-up, without end or at most `timeoutMs`; a wake-up is taken back by returning it.
   */
  wait(timeoutMs?: number): number;
  /** Whether the last wait was so long that what ended it is most likely alone. */
  readonly wasQuiet: boolean;
  /** Waits until sink number `sink` takes packets again, at most `timeoutMs`; whether it does. */
  waitForSink(timeoutMs: number, sink: number): boolean;
}

/** ICMP messages that arrived for this host: one at a time, the whole IP packet, in its batch's slot 0. */
export type ErrorSource = PacketSource;

/** Milliseconds that only grow; read once per batch. */
export type MonotonicMs = () => number;
