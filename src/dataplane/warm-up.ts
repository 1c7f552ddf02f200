/**
 * Runs each direction on packets of our own making before the first real one. V8 interprets code that has run
 * seldom, and a node whose traffic is a few packets a second would be interpreted for hours: the first 200 packets
 * took 14–22 µs each in our code, after this 5–7 µs (one core of a busy shared machine, Node 20). Nothing of it is
 * seen outside: tables, counters, sources and sinks are made for it and forgotten.
 */
import type { ForwardingConfig } from '../fib/forwarding-config.ts';
import type { Transport, UnderlayMtu } from '../ip/mtu.ts';
import { prefix } from '../ip/prefix.ts';
import { HEADROOM_BYTES } from './ports.ts';
import {
  type SteadyDirection,
  type SteadyParts,
  steadyInbound,
  steadyOutbound,
} from './steady-directions.ts';
import { SteadyMemory } from './steady-links.ts';
import { fromTun, OURS, PEER, SELF, segmentsOf, THEIRS, tcpPacket, udpPacket } from './steady-packets.ts';

/** Enough for V8 to compile what each packet runs through, in some 30 ms. */
const ROUNDS = 300;
const SINGLES = 4;
const SLOT_BYTES = 1024;
const SEGMENT_BYTES = 128;
const SEGMENTS = 4;
/** Blobs, tables, and a whole packet's place. */
const REST_BYTES = 576 << 10;

function config(transport: Transport): ForwardingConfig {
  return {
    revision: 1,
    outerSource: SELF,
    localAddresses: [SELF],
    entries: [{ prefix: prefix('10.147.135.192/26'), nextHops: [PEER] }],
    peers: [{ address: PEER, transport, udpPort: transport === 'udp' ? 5555 : 0, mtu: 1500 as UnderlayMtu }],
    sources: [
      { prefix: prefix('10.147.135.192/26'), owners: [PEER] },
      { prefix: prefix('192.168.1.0/26'), owners: 'local' },
    ],
    externalSources: [],
  };
}

function parts(transport: Transport): SteadyParts {
  const slots = (SINGLES + SEGMENTS) * (HEADROOM_BYTES + SLOT_BYTES);
  const memory = new SteadyMemory(new Uint8Array(slots + REST_BYTES));
  return { transport, config: config(transport), memory, slotBytes: SLOT_BYTES };
}

/** Batches, and packets by themselves. Returns what its counters say. */
export function warmUpOutbound(transport: Transport): Record<string, number> {
  const single = fromTun(udpPacket(OURS, THEIRS, 40_000, 64));
  const singles = Array.from({ length: SINGLES }, () => single);
  const superpacket = fromTun(tcpPacket(OURS, THEIRS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES);
  run(steadyOutbound(parts(transport), [single]));
  return run(steadyOutbound(parts(transport), [...singles, superpacket]));
}

export function warmUpInbound(transport: Transport): Record<string, number> {
  const single = [udpPacket(THEIRS, OURS, 40_000, 64)];
  const singles = Array.from({ length: SINGLES }, () => single);
  const train = segmentsOf(tcpPacket(THEIRS, OURS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES);
  run(steadyInbound(parts(transport), [single]));
  return run(steadyInbound(parts(transport), [...singles, train]));
}

function run({ step, counters }: SteadyDirection): Record<string, number> {
  for (let round = 0; round < ROUNDS; round++) step();
  return counters.snapshot();
}
