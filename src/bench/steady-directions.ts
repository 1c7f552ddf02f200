/**
 * Both directions of the data plane in their steady state, on memory: one table of 20,000 blocks, one peer that
 * packets go to and come from, the same batch of packets again and again. No kernel, so what is measured is ours.
 */
import { Counters, createCounterMemory } from '../dataplane/counters.ts';
import { Inbound } from '../dataplane/inbound.ts';
import { Outbound } from '../dataplane/outbound.ts';
import { PathState } from '../dataplane/path-state.ts';
import type { PacketMemory } from '../dataplane/ports.ts';
import { Segmenter } from '../dataplane/segmentation.ts';
import type { ForwardingConfig } from '../fib/forwarding-config.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import { ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import type { Transport, UnderlayMtu } from '../ip/mtu.ts';
import { prefix, prefixOf } from '../ip/prefix.ts';
import { writeU16, writeU32 } from '../wire/bytes.ts';
import { arenaSum } from '../wire/checksum-simd.ts';
import {
  IPV4_DF,
  IPV4_MIN_HEADER_BYTES,
  PROTOCOL_IPIP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  writeIpv4Header,
} from '../wire/ipv4.ts';
import { TCP_MIN_HEADER_BYTES } from '../wire/tcp.ts';
import { UDP_HEADER_BYTES } from '../wire/udp.ts';
import {
  GSO_TCPV4,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  writeVirtioNetHeader,
} from '../wire/virtio-net-header.ts';
import { RepeatingSource, SwallowingSink, steadyWaiter } from './steady-links.ts';

const BLOCKS = 20_000;
const BLOCK_ADDRESSES = 64;
const FIRST_BLOCK = ipv4('10.128.0.0');
const SELF = ipv4('10.0.1.11');
const PEER = ipv4('10.0.2.11');
const MTU = 1500 as UnderlayMtu;
/** Inner addresses: ours, and one in the last block, which is the peer's. */
export const OURS = ipv4('192.168.1.1');
export const THEIRS = ipv4FromNumber(FIRST_BLOCK + (BLOCKS - 1) * BLOCK_ADDRESSES + 1);

/** A superpacket of 46 segments, as a stream at MTU 1480 sends it. */
export const SEGMENT_BYTES = 1428;
export const SEGMENTS = 45;
export const SINGLES = 64;
const DATAGRAM_BYTES = 64;
const ARENA_PAGES = 512;

/** A WebAssembly memory, as the packet threads have one, but no kernel sees it. */
export class SteadyMemory implements PacketMemory {
  readonly memory = new WebAssembly.Memory({ initial: ARENA_PAGES, maximum: ARENA_PAGES });
  readonly bytes = new Uint8Array(this.memory.buffer);
  readonly sum = arenaSum(this.memory)!;
  #used = 0;

  allocate(size: number, alignment = 8): number {
    const offset = Math.ceil(this.#used / alignment) * alignment;
    this.#used = offset + size;
    return offset;
  }
}

export function steadyConfig(transport: Transport = 'ipip'): ForwardingConfig {
  const blocks = Array.from({ length: BLOCKS }, (_, i) => prefixOf(FIRST_BLOCK + i * BLOCK_ADDRESSES, 26));
  const others = (i: number) => (i === BLOCKS - 1 ? PEER : ipv4FromNumber(ipv4('10.1.0.0') + (i >>> 2)));
  const addresses = [...new Set(blocks.map((_, i) => others(i)))];
  return {
    revision: 1,
    outerSource: SELF,
    localAddresses: [SELF],
    entries: blocks.map((block, i) => ({ prefix: block, nextHops: [others(i)] })),
    peers: addresses.map((address) => ({
      ...{ address, transport, mtu: MTU },
      udpPort: transport === 'udp' ? 5555 : 0,
    })),
    sources: [
      ...blocks.map((block, i) => ({ prefix: block, owners: [others(i)] })),
      { prefix: prefix('192.168.1.0/26'), owners: 'local' as const },
    ],
    externalSources: [],
  };
}

/** TCP from `source` to `destination` with `payloadBytes` of nothing; its checksum is not filled in. */
export function tcpPacket(source: number, destination: number, payloadBytes: number): Uint8Array {
  const headerBytes = IPV4_MIN_HEADER_BYTES + TCP_MIN_HEADER_BYTES;
  const packet = new Uint8Array(headerBytes + payloadBytes);
  writeIpv4Header(packet, 0, 0, packet.length, 1, IPV4_DF, 63, PROTOCOL_TCP, source, destination);
  writeU16(packet, 20, 40_000);
  writeU16(packet, 22, 5201);
  writeU32(packet, 24, 1);
  writeU32(packet, 28, 1);
  packet[32] = (TCP_MIN_HEADER_BYTES / 4) << 4;
  packet[33] = 0x10;
  writeU16(packet, 34, 500);
  return packet;
}

/** A datagram without checksum, which IPv4 allows. */
function udpPacket(source: number, destination: number, port: number): Uint8Array {
  const packet = new Uint8Array(IPV4_MIN_HEADER_BYTES + UDP_HEADER_BYTES + DATAGRAM_BYTES);
  writeIpv4Header(packet, 0, 0, packet.length, 1, IPV4_DF, 63, PROTOCOL_UDP, source, destination);
  writeU16(packet, 20, port);
  writeU16(packet, 22, 5201);
  writeU16(packet, 24, UDP_HEADER_BYTES + DATAGRAM_BYTES);
  return packet;
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** As the TUN delivers it. */
function fromTun(packet: Uint8Array, gsoSize = 0): Uint8Array {
  const vnet = new Uint8Array(VIRTIO_NET_HEADER_BYTES);
  const headerBytes = IPV4_MIN_HEADER_BYTES + TCP_MIN_HEADER_BYTES;
  if (gsoSize > 0)
    writeVirtioNetHeader(
      vnet,
      0,
      VNET_NEEDS_CHECKSUM,
      GSO_TCPV4,
      headerBytes,
      gsoSize,
      IPV4_MIN_HEADER_BYTES,
      16,
    );
  return join(vnet, packet);
}

function wrapped(packet: Uint8Array): Uint8Array {
  const outer = new Uint8Array(IPV4_MIN_HEADER_BYTES);
  writeIpv4Header(outer, 0, 0, outer.length + packet.length, 0, IPV4_DF, 62, PROTOCOL_IPIP, PEER, SELF);
  return join(outer, packet);
}

/** A superpacket as the packets of MTU size that it is on the wire, checksums complete. */
export function segmentsOf(superpacket: Uint8Array): readonly Uint8Array[] {
  const memory = new SteadyMemory();
  const [packet, target] = [memory.allocate(65_536), memory.allocate(2048)];
  memory.bytes.set(superpacket, packet);
  const segmenter = new Segmenter(memory.bytes, memory.sum);
  const count = segmenter.begin(packet, superpacket.length, GSO_TCPV4, SEGMENT_BYTES);
  return Array.from({ length: count }, () => {
    segmenter.writeHeaders(target);
    const { headerBytes, payloadOffset, payloadBytes } = segmenter;
    return join(
      memory.bytes.slice(target, target + headerBytes),
      memory.bytes.slice(payloadOffset, payloadOffset + payloadBytes),
    );
  });
}

/** A direction that runs the same batch with every `step`. */
export interface SteadyDirection {
  readonly step: () => unknown;
  /** Packets of one step, as they are on the wire. */
  readonly packets: number;
  readonly counters: Counters;
}

export type Traffic = 'single packets' | 'superpackets';

const clock = () => performance.now();

export function steadyOutbound(transport: Transport, traffic: Traffic): SteadyDirection {
  const memory = new SteadyMemory();
  const table = new ForwardingTable(clock);
  table.replace(steadyConfig(transport));
  const counters = new Counters('outbound', createCounterMemory());
  const packets =
    traffic === 'single packets'
      ? Array.from({ length: SINGLES }, (_, i) => fromTun(udpPacket(OURS, THEIRS, i)))
      : [fromTun(tcpPacket(OURS, THEIRS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES)];
  const outbound = new Outbound({
    memory,
    source: new RepeatingSource(memory, packets),
    sink: new SwallowingSink(),
    datagramSink: transport === 'udp' ? new SwallowingSink() : undefined,
    waiter: steadyWaiter,
    table,
    paths: new PathState(clock),
    counters,
    clock,
    sum: memory.sum,
  });
  const count = traffic === 'single packets' ? SINGLES : SEGMENTS;
  return { step: () => outbound.step(), packets: count, counters };
}

export function steadyInbound(transport: Transport, traffic: Traffic): SteadyDirection {
  const memory = new SteadyMemory();
  const table = new SourceTable(clock);
  table.replace(steadyConfig(transport));
  const counters = new Counters('inbound', createCounterMemory());
  const inner =
    traffic === 'single packets'
      ? Array.from({ length: SINGLES }, (_, i) => udpPacket(THEIRS, OURS, i))
      : segmentsOf(tcpPacket(THEIRS, OURS, SEGMENTS * SEGMENT_BYTES));
  const datagrams =
    transport === 'udp' ? new RepeatingSource(memory, [join(...inner)], inner[0]!.length) : undefined;
  if (datagrams) {
    datagrams.batch.sender[0] = PEER;
    datagrams.batch.destination[0] = SELF;
  }
  const inbound = new Inbound({
    memory,
    source: new RepeatingSource(memory, inner.map(wrapped)),
    datagrams,
    sink: new SwallowingSink(),
    table,
    counters,
    udpSuperpackets: true,
    sum: memory.sum,
  });
  const step = transport === 'udp' ? () => inbound.stepDatagrams() : () => inbound.step();
  return { step, packets: inner.length, counters };
}
