/** Puts each direction of the data plane together from io and dataplane, for the packet threads. */
import type { Counters } from '../dataplane/counters.ts';
import { FrameTable } from '../dataplane/frame-table.ts';
import { IcmpListener } from '../dataplane/icmp-listener.ts';
import { Inbound } from '../dataplane/inbound.ts';
import { Outbound } from '../dataplane/outbound.ts';
import { PathState } from '../dataplane/path-state.ts';
import { type MonotonicMs, PacketBatch, PieceBatch, type Waiter } from '../dataplane/ports.ts';
import { UnroutedHold } from '../dataplane/unrouted-hold.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import type { Arena } from '../io/arena.ts';
import { FrameSink } from '../io/packet-socket.ts';
import { MessageSink, MessageSource } from '../io/raw-socket.ts';
import { TunSink, TunSource } from '../io/tun.ts';
import { DatagramSink, DatagramSource } from '../io/udp-socket.ts';
import { arenaSum } from '../wire/checksum-simd.ts';
import type { PacketThreadStart } from './data-plane-messages.ts';

/** Packets per receive; each has a slot that holds 64 KB. */
export const BATCH_PACKETS = 64;
/** Packets and pieces per send: several superpackets' worth of segments. */
const SEND_PACKETS = 512;
const SEND_PIECES = 1024;
/** An ICMP error quotes a few hundred bytes; a longer one is cut short by the kernel and still tells enough. */
const ICMP_SLOT_BYTES = 2048;
export const ICMP_PACKETS = 8;

/** What a direction needs of its thread. */
export interface ThreadParts {
  readonly start: PacketThreadStart;
  readonly arena: Arena;
  readonly waiter: Waiter;
  readonly clock: MonotonicMs;
}

/** The descriptors of outbound's sinks, in the order in which it names them to the waiter. */
export const sinksOf = (start: PacketThreadStart) => [start.sender, start.datagrams, start.frames];

export interface OutboundDirection {
  readonly outbound: Outbound;
  readonly listener: IcmpListener;
  readonly table: ForwardingTable;
  readonly frames: FrameTable;
  readonly hold: UnroutedHold | undefined;
}

/** `learnsOnly`: whether another thread counts the ICMP errors that both hear, and answers them. */
export function makeOutbound(
  { start, arena, waiter, clock }: ThreadParts,
  counters: Counters,
  learnsOnly: boolean,
): OutboundDirection {
  const table = new ForwardingTable(clock);
  const paths = new PathState(clock);
  const frames = new FrameTable();
  table.peers.onAssign = (slot, address) => {
    counters.assignPeer(slot, address);
    paths.forget(slot);
    frames.forget(slot);
  };
  const hold = start.holdUnrouted ? new UnroutedHold(arena, clock) : undefined;
  const outbound = new Outbound({
    ...{ memory: arena, waiter, table, paths, frames, counters, clock },
    source: new TunSource(start.tun, arena, new PacketBatch(arena, BATCH_PACKETS)),
    sink: new MessageSink(start.sender, arena, new PieceBatch(arena, SEND_PACKETS, SEND_PIECES)),
    ...fasterSinks(start, arena),
    sum: arenaSum(arena.memory),
    datagramsOnly: start.receiver < 0,
    ...(hold ? { hold } : {}),
    hearErrors: () => listener.step(),
  });
  const icmpBatch = new PacketBatch(arena, ICMP_PACKETS, ICMP_SLOT_BYTES);
  const listener: IcmpListener = new IcmpListener({
    memory: arena,
    source: new MessageSource(start.icmp, arena, icmpBatch, ICMP_SLOT_BYTES),
    ...{ table, paths, counters, learnsOnly },
    replies: outbound.replies,
  });
  return { outbound, listener, table, frames, hold };
}

/** Those that the flags ask for. */
function fasterSinks(
  { datagrams, frames }: PacketThreadStart,
  arena: Arena,
): { datagramSink: DatagramSink | undefined; frameSink: FrameSink | undefined } {
  return {
    // As many packets as pieces: what the kernel will not segment is sent one by one.
    datagramSink:
      datagrams < 0
        ? undefined
        : new DatagramSink(datagrams, arena, new PieceBatch(arena, SEND_PIECES, SEND_PIECES)),
    frameSink:
      frames < 0 ? undefined : new FrameSink(frames, arena, new PieceBatch(arena, SEND_PACKETS, SEND_PIECES)),
  };
}

export interface InboundDirection {
  readonly inbound: Inbound;
  readonly table: SourceTable;
}

export function makeInbound({ start, arena, clock }: ThreadParts, counters: Counters): InboundDirection {
  const table = new SourceTable(clock);
  table.peers.onAssign = (slot, address) => counters.assignPeer(slot, address);
  const { receiver, datagrams } = start;
  const inbound = new Inbound({
    memory: arena,
    source: new MessageSource(receiver, arena, new PacketBatch(arena, receiver < 0 ? 0 : BATCH_PACKETS)),
    datagrams:
      datagrams < 0 ? undefined : new DatagramSource(datagrams, arena, new PacketBatch(arena, BATCH_PACKETS)),
    sink: new TunSink(start.tunWriter, arena, new PieceBatch(arena, SEND_PACKETS, SEND_PIECES)),
    ...{ table, counters },
    udpSuperpackets: start.udpSuperpackets,
    sum: arenaSum(arena.memory),
  });
  return { inbound, table };
}
