/**
 * Runs each direction on packets of our own making before the first real one. V8 interprets code that has run
 * seldom, and a node whose traffic is a few packets a second would be interpreted for hours: the first 200 packets
 * took 14–22 µs each in our code, after this 5–7 µs (one core of a busy shared machine, Node 20). Nothing of it is seen outside: tables, counters, sources and sinks
 * are made for it and forgotten.
 */
import type { ForwardingConfig } from '../fib/forwarding-config.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import { ipv4FromNumber } from '../ip/ipv4.ts';
import type { UnderlayMtu } from '../ip/mtu.ts';
import { prefix } from '../ip/prefix.ts';
import { writeU16, writeU32 } from '../wire/bytes.ts';
import { PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP, writeIpv4Header } from '../wire/ipv4.ts';
import { TCP_OFF_DATA_OFFSET, TCP_OFF_SEQUENCE } from '../wire/tcp.ts';
import { UDP_OFF_LENGTH } from '../wire/udp.ts';
import { GSO_TCPV4, VNET_NEEDS_CHECKSUM, writeVirtioNetHeader } from '../wire/virtio-net-header.ts';
import { Counters, createCounterMemory } from './counters.ts';
import { Inbound } from './inbound.ts';
import { Outbound } from './outbound.ts';
import { PathState } from './path-state.ts';
import {
  HEADROOM_BYTES,
  PacketBatch,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  PieceBatch,
  SEND_OK,
} from './ports.ts';

/** Enough for V8 to compile what each packet runs through, in some 30 ms. */
const ROUNDS = 300;
const BATCH_PACKETS = 8;
const SLOT_BYTES = 1024;
/** Pieces of what one batch becomes, twice over. */
const SEND_PIECES = 64;
const IP_BYTES = 20;
const TCP_BYTES = 20;
const SEGMENT_BYTES = 128;
const VNET_BYTES = 10;
const SELF = 0x0a000001;
const PEER = 0x0a000002;
const OURS = 0xc0a80001;
const THEIRS = 0xc0a80101;

class SamePackets implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PacketMemory;
  readonly #packets: readonly Uint8Array[];

  constructor(memory: PacketMemory, packets: readonly Uint8Array[]) {
    this.#memory = memory;
    this.#packets = packets;
    this.batch = new PacketBatch(memory, packets.length, SLOT_BYTES);
  }

  receive(): number {
    this.#packets.forEach((packet, i) => {
      this.#memory.bytes.set(packet, this.batch.offset[i]!);
      this.batch.length[i] = packet.length;
      this.batch.sender[i] = PEER;
      this.batch.destination[i] = SELF;
    });
    this.batch.count = this.#packets.length;
    return this.batch.count;
  }
}

class Nowhere implements PacketSink {
  readonly batch = new PieceBatch(SEND_PIECES, SEND_PIECES);
  readonly failure = SEND_OK;

  send(from: number): number {
    return this.batch.packetCount - from;
  }
}

function scratchMemory(): PacketMemory {
  const bytes = new Uint8Array(2 * BATCH_PACKETS * (HEADROOM_BYTES + SLOT_BYTES) + (512 << 10));
  let used = 0;
  return {
    bytes,
    allocate(size, alignment = 8) {
      const offset = Math.ceil(used / alignment) * alignment;
      used = offset + size;
      return offset;
    },
  };
}

function ipPacket(source: number, destination: number, protocol: number, payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(IP_BYTES + payload.length);
  writeIpv4Header(packet, 0, 0, packet.length, 0, 0x4000, 64, protocol, source, destination);
  packet.set(payload, IP_BYTES);
  return packet;
}

function tcpPacket(source: number, destination: number, sequence: number, payloadBytes: number): Uint8Array {
  const segment = new Uint8Array(TCP_BYTES + payloadBytes);
  writeU32(segment, TCP_OFF_SEQUENCE, sequence);
  writeU16(segment, TCP_OFF_DATA_OFFSET, 0x5010);
  return ipPacket(source, destination, PROTOCOL_TCP, segment);
}

function udpPacket(source: number, destination: number): Uint8Array {
  const datagram = new Uint8Array(72);
  writeU16(datagram, UDP_OFF_LENGTH, datagram.length);
  return ipPacket(source, destination, PROTOCOL_UDP, datagram);
}

function behindVnet(packet: Uint8Array, gsoType: number): Uint8Array {
  const bytes = new Uint8Array(VNET_BYTES + packet.length);
  if (gsoType !== 0)
    writeVirtioNetHeader(
      bytes,
      0,
      VNET_NEEDS_CHECKSUM,
      gsoType,
      IP_BYTES + TCP_BYTES,
      SEGMENT_BYTES,
      IP_BYTES,
      16,
    );
  bytes.set(packet, VNET_BYTES);
  return bytes;
}

function config(transport: 'ipip' | 'udp'): ForwardingConfig {
  const self = ipv4FromNumber(SELF);
  const peer = ipv4FromNumber(PEER);
  return {
    revision: 1,
    outerSource: self,
    localAddresses: [self],
    entries: [{ prefix: prefix('192.168.1.0/24'), nextHops: [peer] }],
    peers: [{ address: peer, transport, udpPort: 5555, mtu: 1500 as UnderlayMtu }],
    sources: [
      { prefix: prefix('192.168.1.0/24'), owners: [peer] },
      { prefix: prefix('192.168.0.0/24'), owners: 'local' },
    ],
    externalSources: [],
  };
}

const clock = () => performance.now();

/** Returns what its counters say. */
export function warmUpOutbound(transport: 'ipip' | 'udp'): Record<string, number> {
  const memory = scratchMemory();
  const table = new ForwardingTable(clock);
  table.replace(config(transport));
  const single = behindVnet(udpPacket(OURS, THEIRS), 0);
  const superpacket = behindVnet(tcpPacket(OURS, THEIRS, 1, 3 * SEGMENT_BYTES), GSO_TCPV4);
  const counters = new Counters('outbound', createCounterMemory());
  const outbound = new Outbound({
    memory,
    source: new SamePackets(memory, [...Array(BATCH_PACKETS - 1).fill(single), superpacket]),
    sink: new Nowhere(),
    datagramSink: new Nowhere(),
    waiter: { wait: () => 0, waitForSink: () => false },
    table,
    paths: new PathState(clock),
    counters,
    clock,
  });
  for (let round = 0; round < ROUNDS; round++) outbound.step();
  return counters.snapshot();
}

export function warmUpInbound(transport: 'ipip' | 'udp'): Record<string, number> {
  const memory = scratchMemory();
  const table = new SourceTable(clock);
  table.replace(config(transport));
  const inner = [
    ...Array.from({ length: BATCH_PACKETS / 2 }, () => udpPacket(THEIRS, OURS)),
    ...Array.from({ length: BATCH_PACKETS / 2 }, (_, i) =>
      tcpPacket(THEIRS, OURS, 1 + i * SEGMENT_BYTES, SEGMENT_BYTES),
    ),
  ];
  const source = new SamePackets(
    memory,
    inner.map((packet) => (transport === 'udp' ? packet : ipPacket(PEER, SELF, PROTOCOL_IPIP, packet))),
  );
  const counters = new Counters('inbound', createCounterMemory());
  const inbound = new Inbound({
    memory,
    source,
    datagrams: source,
    sink: new Nowhere(),
    table,
    counters,
    udpSuperpackets: true,
  });
  for (let round = 0; round < ROUNDS; round++)
    if (transport === 'udp') inbound.stepDatagrams();
    else inbound.step();
  return counters.snapshot();
}
