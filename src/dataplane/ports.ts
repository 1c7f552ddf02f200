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
  /** The kernel's address of byte 0; memory that no kernel sees has 0. All of it lies within one 4 GB of addresses. */
  readonly base: number;
  allocate(size: number, alignment?: number): number;
}

/** What the kernel may hand over at once: the largest IPv4 packet, and the virtio-net header before it. */
export const SLOT_BYTES = 65_536 + 64;
/** Free bytes before a slot's packet: an outer IPv4 header, what a frame of our own has before it, and room to align. */
export const HEADROOM_BYTES = 64;

/*
 * Records, not an array for each field: to look at one array costs three lines of the processor's cache (two of the object, one
 * of the data), and a single packet that wakes the thread finds none of them there.
 */
const RECEIVED_OFFSET = 0;
const RECEIVED_BYTES = 1;
const RECEIVED_SEGMENT_BYTES = 2;
const RECEIVED_SENDER = 3;
const RECEIVED_DESTINATION = 4;
const RECEIVED_TOS = 5;
const RECEIVED_WORDS = 6;

/** The packets of one receive, a slot each. */
export class PacketBatch {
  readonly capacity: number;
  count = 0;
  readonly #records: Int32Array;

  constructor(memory: PacketMemory, capacity: number, slotBytes = SLOT_BYTES) {
    this.capacity = capacity;
    this.#records = new Int32Array(capacity * RECEIVED_WORDS);
    for (let i = 0; i < capacity; i++)
      this.#records[i * RECEIVED_WORDS + RECEIVED_OFFSET] =
        memory.allocate(HEADROOM_BYTES + slotBytes, 64) + HEADROOM_BYTES;
  }

  /** Where slot i begins; HEADROOM_BYTES before it are the loop's to write. */
  offset(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_OFFSET]!;
  }

  /** Bytes received into it; at most `slotBytes`. */
  length(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_BYTES]!;
  }

  setLength(i: number, bytes: number): void {
    this.#records[i * RECEIVED_WORDS + RECEIVED_BYTES] = bytes;
  }

  /** UDP_GRO: the slot holds datagrams of this many bytes one after another; 0 where it holds one. */
  segmentBytes(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_SEGMENT_BYTES]!;
  }

  /** Outer source (as a signed word) as the socket tells it; sources that deliver the outer header leave 0. */
  sender(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_SENDER]!;
  }

  /** The same of the outer destination and TOS. */
  destination(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_DESTINATION]!;
  }

  tos(i: number): number {
    return this.#records[i * RECEIVED_WORDS + RECEIVED_TOS]!;
  }

  /** What the socket tells of the outer headers of slot i. */
  setOuter(i: number, sender: number, destination: number, tos: number, segmentBytes: number): void {
    const at = i * RECEIVED_WORDS;
    this.#records[at + RECEIVED_SENDER] = sender;
    this.#records[at + RECEIVED_DESTINATION] = destination;
    this.#records[at + RECEIVED_TOS] = tos;
    this.#records[at + RECEIVED_SEGMENT_BYTES] = segmentBytes;
  }
}

/** Packet p owns the pieces from its first until the next one's first. */
const PACKET_FIRST_PIECE = 0;
const PACKET_DESTINATION = 1;
const PACKET_PORT = 2;
const PACKET_TOS = 3;
const PACKET_SEGMENT_BYTES = 4;
const PACKET_WORDS = 5;

/** struct iovec: an address, of which the upper half never changes, and a length. */
const PIECE_BYTES = 16;
const PIECE_WORDS = 4;
const PIECE_ADDRESS = 0;
const PIECE_ADDRESS_HIGH = 1;
const PIECE_LENGTH = 2;

/**
 * Packets to send in one go, each a list of pieces of the arena that the sink gathers. The pieces lie in the arena as the
 * kernel reads them, so a sink hands them on as they are.
 */
export class PieceBatch {
  readonly packetCapacity: number;
  readonly pieceCapacity: number;
  packetCount = 0;
  pieceCount = 0;
  /** Outer source of the `udp` transport; 0 lets the kernel choose. */
  source = 0;
  readonly #packets: Int32Array;
  readonly #words: Int32Array;
  readonly #vectors: number;
  /** Lower half of the kernel's address of byte 0. */
  readonly #base: number;

  constructor(memory: PacketMemory, packetCapacity: number, pieceCapacity: number) {
    this.packetCapacity = packetCapacity;
    this.pieceCapacity = pieceCapacity;
    this.#packets = new Int32Array((packetCapacity + 1) * PACKET_WORDS);
    const { bytes, base } = memory;
    this.#vectors = memory.allocate(pieceCapacity * PIECE_BYTES, PIECE_BYTES);
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    this.#base = base | 0;
    const high = Math.floor(base / 2 ** 32);
    for (let piece = 0; piece < pieceCapacity; piece++)
      this.#words[this.#piece(piece) + PIECE_ADDRESS_HIGH] = high;
  }

  /** Makes it empty; packets begin with piece `first` then, which may be there already. */
  clear(first = 0): void {
    this.packetCount = 0;
    this.pieceCount = first;
    this.#packets[PACKET_FIRST_PIECE] = first;
  }

  /** Whether one more packet of `pieces` pieces fits. */
  hasRoom(pieces: number): boolean {
    return this.packetCount < this.packetCapacity && this.pieceCount + pieces <= this.pieceCapacity;
  }

  /** Adds a piece to the packet that `endPacket` will complete. */
  addPiece(offset: number, length: number): void {
    const word = this.#piece(this.pieceCount++);
    this.#words[word + PIECE_ADDRESS] = this.#base + offset;
    this.#words[word + PIECE_LENGTH] = length;
  }

  /**
   * Completes a packet from the pieces added since the last one; returns its index. `destination`: the outer one, for sinks that
   * address each packet; of frames, the interface. Of the `udp` transport: port and TOS.
   */
  endPacket(destination: number, port = 0, tos = 0): number {
    const packet = this.packetCount++;
    const at = packet * PACKET_WORDS;
    this.#packets[at + PACKET_DESTINATION] = destination;
    this.#packets[at + PACKET_PORT] = port;
    this.#packets[at + PACKET_TOS] = tos;
    this.#packets[at + PACKET_SEGMENT_BYTES] = 0;
    this.#packets[at + PACKET_WORDS + PACKET_FIRST_PIECE] = this.pieceCount;
    return packet;
  }

  /** Gives the pieces added since the last packet to that packet instead, which is datagrams of `segmentBytes` then. */
  extendPacket(segmentBytes: number): void {
    const at = this.packetCount * PACKET_WORDS;
    this.#packets[at + PACKET_FIRST_PIECE] = this.pieceCount;
    this.#packets[at - PACKET_WORDS + PACKET_SEGMENT_BYTES] = segmentBytes;
  }

  firstPiece(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_FIRST_PIECE]!;
  }

  /** One past its last piece. */
  endPiece(packet: number): number {
    return this.#packets[(packet + 1) * PACKET_WORDS + PACKET_FIRST_PIECE]!;
  }

  /** As a signed word. */
  destination(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_DESTINATION]!;
  }

  port(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_PORT]!;
  }

  tos(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_TOS]!;
  }

  /** The UDP_SEGMENT size of a packet that is several datagrams, else 0. */
  segmentBytes(packet: number): number {
    return this.#packets[packet * PACKET_WORDS + PACKET_SEGMENT_BYTES]!;
  }

  /** Where in the arena a piece lies, and how long it is. */
  offset(piece: number): number {
    return (this.#words[this.#piece(piece) + PIECE_ADDRESS]! - this.#base) | 0;
  }

  length(piece: number): number {
    return this.#words[this.#piece(piece) + PIECE_LENGTH]!;
  }

  /** Where in the arena the struct iovec of a piece lies; those of a packet follow each other. */
  vector(piece: number): number {
    return this.#vectors + piece * PIECE_BYTES;
  }

  /** The record of a piece among the words. */
  #piece(piece: number): number {
    return (this.#vectors >>> 2) + piece * PIECE_WORDS;
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
