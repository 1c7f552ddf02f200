/** The steady directions at size: one table of 20,000 blocks, and batches of MTU packets, superpackets, or small packets. */
import {
  type SteadyDirection,
  type SteadyParts,
  steadyInbound,
  steadyOutbound,
} from '../dataplane/steady-directions.ts';
import { SteadyMemory } from '../dataplane/steady-links.ts';
import {
  fromTun,
  OURS,
  PEER,
  SELF,
  segmentsOf,
  THEIRS,
  tcpPacket,
  udpPacket,
} from '../dataplane/steady-packets.ts';
import type { ForwardingConfig } from '../fib/forwarding-config.ts';
import { ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import type { Transport, UnderlayMtu } from '../ip/mtu.ts';
import { prefix, prefixOf } from '../ip/prefix.ts';
import { arenaSum } from '../wire/checksum-simd.ts';

const BLOCKS = 20_000;
const BLOCK_ADDRESSES = 64;
/** THEIRS is in the last block, which is the peer's. */
const FIRST_BLOCK = THEIRS - 1 - (BLOCKS - 1) * BLOCK_ADDRESSES;
const MTU = 1500 as UnderlayMtu;

/** A superpacket of 45 segments, as a stream at MTU 1480 sends it. */
export const SEGMENT_BYTES = 1428;
export const SEGMENTS = 45;
const SINGLES = 64;
const DATAGRAM_BYTES = 64;
const ARENA_PAGES = 512;

/** As the packet threads have one, but no kernel sees it. */
export class WasmMemory extends SteadyMemory {
  readonly sum: NonNullable<ReturnType<typeof arenaSum>>;

  constructor() {
    const memory = new WebAssembly.Memory({ initial: ARENA_PAGES, maximum: ARENA_PAGES });
    super(new Uint8Array(memory.buffer));
    this.sum = arenaSum(memory)!;
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

export type Traffic = 'single packets' | 'superpackets';

/** A direction, and how many packets one step of it is, as they are on the wire. */
export interface MeasuredDirection extends SteadyDirection {
  readonly packets: number;
}

function parts(transport: Transport): SteadyParts {
  const memory = new WasmMemory();
  return { transport, config: steadyConfig(transport), memory, sum: memory.sum };
}

function singles(source: number, destination: number): readonly Uint8Array[] {
  return Array.from({ length: SINGLES }, (_, i) => udpPacket(source, destination, i, DATAGRAM_BYTES));
}

export function measuredOutbound(transport: Transport, traffic: Traffic): MeasuredDirection {
  const packets =
    traffic === 'single packets'
      ? singles(OURS, THEIRS).map((packet) => fromTun(packet))
      : [fromTun(tcpPacket(OURS, THEIRS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES)];
  const count = traffic === 'single packets' ? SINGLES : SEGMENTS;
  return { ...steadyOutbound(parts(transport), packets), packets: count };
}

export function measuredInbound(transport: Transport, traffic: Traffic): MeasuredDirection {
  const train =
    traffic === 'single packets'
      ? singles(THEIRS, OURS)
      : segmentsOf(tcpPacket(THEIRS, OURS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES);
  return { ...steadyInbound(parts(transport), [train]), packets: train.length };
}
