/** The entry of a packet thread: puts one direction together from io and dataplane, and runs it. */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Counters, NOTE_CHANGES } from '../dataplane/counters.ts';
import { FrameTable } from '../dataplane/frame-table.ts';
import { IcmpListener } from '../dataplane/icmp-listener.ts';
import { Inbound } from '../dataplane/inbound.ts';
import { Outbound } from '../dataplane/outbound.ts';
import { PathState } from '../dataplane/path-state.ts';
import { PacketBatch, PieceBatch } from '../dataplane/ports.ts';
import { runLoop } from '../dataplane/run-loop.ts';
import { UnroutedHold } from '../dataplane/unrouted-hold.ts';
import { warmUpInbound, warmUpOutbound } from '../dataplane/warm-up.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import { Arena } from '../io/arena.ts';
import { FrameSink } from '../io/packet-socket.ts';
import { MessageSink, MessageSource } from '../io/raw-socket.ts';
import { SpinPolicy } from '../io/spin-policy.ts';
import { TunSink, TunSource } from '../io/tun.ts';
import { DatagramSink, DatagramSource } from '../io/udp-socket.ts';
import { PollWaiter } from '../io/waiter.ts';
import { arenaSum } from '../wire/checksum-simd.ts';
import type {
  Applied,
  PacketThreadOrder,
  PacketThreadSetup,
  PacketThreadStart,
} from './data-plane-messages.ts';
import { collectGarbage } from './garbage.ts';

/** Packets per receive; each has a slot that holds 64 KB. */
const BATCH_PACKETS = 64;
/** Packets and pieces per send: several superpackets' worth of segments. */
const SEND_PACKETS = 512;
const SEND_PIECES = 1024;
/** An ICMP error quotes a few hundred bytes; a longer one is cut short by the kernel and still tells enough. */
const ICMP_SLOT_BYTES = 2048;
const ICMP_PACKETS = 8;
/** Slots, headers, tables of pointers, and room to spare. */
const ARENA_BYTES = 16 << 20;

/**
 * A sender's superpacket arrives as 45 packets, some microseconds apart. With a pause of 50 µs the receiver takes 20
 * at a time instead of 9, and all threads together need 6–25 % less processor time per packet (100 and 200 µs: the
 * same). By the `udp` transport the kernel has joined them already, and a pause costs more than it saves.
 */
const TRAIN_REST_MICROSECONDS = 50;

type Table = ForwardingTable | SourceTable;

const setup = workerData as PacketThreadSetup;
const clock = () => performance.now();
const arena = new Arena(ARENA_BYTES);
const sum = arenaSum(arena.memory);
const counters = new Counters(setup.direction, setup.counterMemory);
let forwards = false;

// So that `top -H` and `perf` tell the directions apart. A kernel without it, or a read-only /proc, is no reason to stop.
try {
  writeFileSync('/proc/thread-self/comm', setup.direction);
} catch {}

const warmUp = setup.direction === 'outbound' ? warmUpOutbound : warmUpInbound;
if (setup.transport !== 'ipip') warmUp('udp');
if (setup.transport !== 'udp') warmUp('ipip');
const start = takeStart();
if (setup.direction === 'outbound') runOutbound();
else runInbound();

/** Nothing is lost by standing still: there are no descriptors yet. */
function takeStart(): PacketThreadStart {
  Atomics.wait(setup.gate, 0, 0);
  return (receiveMessageOnPort(setup.port) as { message: PacketThreadStart }).message;
}

function runOutbound(): void {
  const table = new ForwardingTable(clock);
  const paths = new PathState(clock);
  const frames = new FrameTable();
  table.peers.onAssign = (slot, address) => {
    counters.assignPeer(slot, address);
    paths.forget(slot);
    frames.forget(slot);
  };
  const source = new TunSource(start.tun, arena, new PacketBatch(arena, BATCH_PACKETS));
  const sink = new MessageSink(start.sender, arena, new PieceBatch(SEND_PACKETS, SEND_PIECES));
  const waiter = new PollWaiter(
    arena,
    {
      source: start.tun,
      wakeup: setup.wakeup,
      second: start.icmp,
      sinks: [start.sender, start.datagrams, start.frames],
    },
    spinPolicy(),
  );
  const { datagramSink, frameSink } = fasterSinks();
  const hold = start.holdUnrouted ? { hold: new UnroutedHold(arena, clock) } : {};
  const outbound = new Outbound({
    ...{ memory: arena, source, sink, datagramSink, frameSink, frames, waiter },
    ...{ table, paths, counters, clock, sum, datagramsOnly: start.receiver < 0 },
    ...hold,
    hearErrors: () => listener.step(),
  });
  const icmpBatch = new PacketBatch(arena, ICMP_PACKETS, ICMP_SLOT_BYTES);
  const listener: IcmpListener = new IcmpListener({
    memory: arena,
    source: new MessageSource(start.icmp, arena, icmpBatch, ICMP_SLOT_BYTES),
    table,
    paths,
    replies: outbound.replies,
    counters,
  });
  report(0);
  runLoop({
    waiter,
    source: { run: () => outbound.step(), capacity: BATCH_PACKETS },
    second: {
      run: () => {
        const messages = listener.step();
        outbound.sendReplies();
        return messages;
      },
      capacity: ICMP_PACKETS,
    },
    takeMessages: () => {
      const goOn = takeMessages(table, frames);
      outbound.retryHeld(!goOn);
      return goOn;
    },
    ...(hold.hold
      ? { due: { remainingMs: () => hold.hold.remainingMs(), run: () => outbound.retryHeld() } }
      : {}),
  });
}

/** On a single core whoever spins holds up the one that is waited for. */
function spinPolicy(): SpinPolicy | undefined {
  return availableParallelism() > 1 ? new SpinPolicy() : undefined;
}

/** Those that the flags ask for. */
function fasterSinks(): { datagramSink: DatagramSink | undefined; frameSink: FrameSink | undefined } {
  const { datagrams, frames } = start;
  return {
    // As many packets as pieces: what the kernel will not segment is sent one by one.
    datagramSink:
      datagrams < 0
        ? undefined
        : new DatagramSink(datagrams, arena, new PieceBatch(SEND_PIECES, SEND_PIECES)),
    frameSink:
      frames < 0 ? undefined : new FrameSink(frames, arena, new PieceBatch(SEND_PACKETS, SEND_PIECES)),
  };
}

function runInbound(): void {
  const table = new SourceTable(clock);
  table.peers.onAssign = (slot, address) => counters.assignPeer(slot, address);
  const raw = start.receiver >= 0;
  const source = new MessageSource(start.receiver, arena, new PacketBatch(arena, raw ? BATCH_PACKETS : 0));
  const datagrams =
    start.datagrams < 0
      ? undefined
      : new DatagramSource(start.datagrams, arena, new PacketBatch(arena, BATCH_PACKETS));
  const sink = new TunSink(start.tun, arena, new PieceBatch(SEND_PACKETS, SEND_PIECES));
  const waiter = new PollWaiter(
    arena,
    {
      source: raw ? start.receiver : start.datagrams,
      wakeup: setup.wakeup,
      second: raw ? start.datagrams : -1,
      sinks: [],
    },
    spinPolicy(),
  );
  const inbound = new Inbound({
    memory: arena,
    source,
    datagrams,
    sink,
    table,
    counters,
    udpSuperpackets: start.udpSuperpackets,
    sum,
  });
  report(0);
  runLoop({
    waiter,
    source: raw
      ? {
          run: () => inbound.step(),
          capacity: BATCH_PACKETS,
          rest: () => waiter.rest(TRAIN_REST_MICROSECONDS),
        }
      : { run: () => inbound.stepDatagrams(), capacity: BATCH_PACKETS },
    second: { run: () => inbound.stepDatagrams(), capacity: BATCH_PACKETS },
    takeMessages: () => takeMessages(table),
  });
}

/** The thread is blocked in ppoll, not in an event loop, so messages are fetched after the eventfd woke it. */
function takeMessages(table: Table, frames?: FrameTable): boolean {
  let firstTable = false;
  for (;;) {
    const received = receiveMessageOnPort(setup.port) as { message: PacketThreadOrder } | undefined;
    if (!received) {
      // Nothing is forwarded before the first table, so this pause costs no packet; later ones would.
      if (firstTable) collectGarbage();
      return true;
    }
    const { message } = received;
    if (message.order === 'stop') return false;
    if (message.order === 'frame-ways') {
      frames?.clear();
      for (const way of message.ways) frames?.set(table.peers.slotOf(way.peer), way);
      report(message.id);
      continue;
    }
    table.sweep();
    if (message.order === 'replace') {
      table.lay(message.part);
      firstTable = !forwards;
      forwards = true;
    } else for (const operation of message.change.operations) table.apply(operation);
    counters.add(NOTE_CHANGES, 1);
    report(message.id);
  }
}

function report(id: number): void {
  const applied: Applied = { id };
  setup.port.postMessage(applied);
}
