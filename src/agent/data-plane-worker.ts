/**
 * The entry of a packet thread. The first one runs both directions: it polls the TUN and the sockets, and after each batch
 * from the underlay it reads the TUN at once, since the host's stack answers while the packet is being written. The
 * second one sleeps until the first has too much to do and gives it the inbound direction (inbound-ownership.ts). Further
 * ones each run outbound for a queue of their own, where the device has several.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Counters, NOTE_CHANGES, NOTE_HAND_OVERS } from '../dataplane/counters.ts';
import { CALM_MS, InboundOwnership } from '../dataplane/inbound-ownership.ts';
import { AnswerStep, DatagramStep, ErrorStep, InboundStep, OutboundStep } from '../dataplane/packet-steps.ts';
import { type PacketStep, type RunLoopParts, runLoop } from '../dataplane/run-loop.ts';
import { warmUpInbound, warmUpOutbound } from '../dataplane/warm-up.ts';
import type { ForwardingTable } from '../fib/forwarding-table.ts';
import type { SourceTable } from '../fib/source-table.ts';
import { Arena } from '../io/arena.ts';
import { SpinPolicy } from '../io/spin-policy.ts';
import { PollWaiter, raiseWakeup } from '../io/waiter.ts';
import type {
  Applied,
  InboundShare,
  PacketThreadOrder,
  PacketThreadSetup,
  PacketThreadStart,
} from './data-plane-messages.ts';
import { collectGarbage } from './garbage.ts';
import {
  BATCH_PACKETS,
  ICMP_PACKETS,
  makeInbound,
  makeOutbound,
  type OutboundDirection,
  sinksOf,
} from './packet-directions.ts';

/** Slots of three sources, headers, tables of pointers, and room to spare. Untouched pages take no memory. */
const ARENA_BYTES = 24 << 20;

/**
 * A sender's superpacket arrives as 45 packets, some microseconds apart. With a pause of 50 µs the receiver takes 20
 * at a time instead of 9, and all threads together need 6–25 % less processor time per packet (100 and 200 µs: the
 * same). By the `udp` transport the kernel has joined them already, and a pause costs more than it saves.
 */
const TRAIN_REST_MICROSECONDS = 50;

/**
 * How much a function runs, in bytes of bytecode, before V8 asks whether to compile it; by itself it takes 67,584. A packet by
 * itself runs through each function once, so that pings took half as long again until some 1,800 had passed. It is the
 * whole process's, hence set when packets may come and not before: all that a start compiles sooner makes it longer (before
 * 20,000 blocks by 0.1 s, a restart by 0.3).
 */
const INTERRUPT_BUDGET = 8000;

const setup = workerData as PacketThreadSetup;
const first = setup.outboundCounters !== null && setup.inbound !== null;
/** On a single core a second thread relieves nobody, and whoever spins holds up the one that is waited for. */
const severalCores = availableParallelism() > 1;

// So that `top -H` and `perf` tell them apart. A kernel without it, or a read-only /proc, is no reason to stop.
try {
  writeFileSync('/proc/thread-self/comm', threadName());
} catch {}

for (const warmUp of [
  ...(setup.outboundCounters ? [warmUpOutbound] : []),
  ...(setup.inbound ? [warmUpInbound] : []),
]) {
  if (setup.transport !== 'ipip') warmUp('udp');
  if (setup.transport !== 'udp') warmUp('ipip');
}
const start = takeStart();
/** Before the two of inbound. */
const outboundSources = setup.outboundCounters ? [start.tun, start.icmp] : [];
const arena = new Arena(ARENA_BYTES);
const scratch = arena.allocate(8, 8);
const waiter = new PollWaiter(
  arena,
  {
    wakeup: setup.wakeup,
    sources: setup.inbound ? [...outboundSources, -1, -1] : outboundSources,
    sinks: sinksOf(start),
  },
  severalCores ? new SpinPolicy() : undefined,
);
/** Of the batch in hand: when it woke the thread. */
const clock = () => waiter.endedMs;
const parts = { start, arena, waiter, clock };
const outboundCounters = setup.outboundCounters && new Counters('outbound', setup.outboundCounters);
const inboundCounters = setup.inbound && new Counters('inbound', setup.inbound.counters);
const out = outboundCounters && makeOutbound(parts, outboundCounters, !first);
const into = inboundCounters && makeInbound(parts, inboundCounters);
/** As a snapshot has its parts. */
const tables = [out, into].flatMap((direction): (ForwardingTable | SourceTable)[] =>
  direction ? [direction.table] : [],
);
let forwards = false;

const ownership = setup.inbound && newOwnership(setup.inbound);
/** An owner that nothing wakes gives the direction back, too. */
const givingBack = { remainingMs: () => (ownership?.receives ? CALM_MS : -1), run: () => {} };

ownership?.takeOver();
report(0);
runLoop({
  waiter,
  steps: packetSteps(),
  betweenBatches: () => {
    if (severalCores && ownership?.settle(waiter.endedMs)) inboundCounters?.add(NOTE_HAND_OVERS, 1);
  },
  takeMessages: () => {
    const goOn = takeMessages();
    ownership?.takeOver();
    out?.outbound.retryHeld(!goOn);
    return goOn;
  },
  due: out ? heldPackets(out) : givingBack,
});

function threadName(): string {
  if (first) return 'packets';
  return setup.inbound ? 'inbound' : 'outbound';
}

function newOwnership(share: InboundShare): InboundOwnership {
  return new InboundOwnership({
    memory: share.ownership,
    self: share.thread,
    nowMs: clock(),
    receive: (on) => {
      waiter.setSource(outboundSources.length, on ? start.receiver : -1);
      waiter.setSource(outboundSources.length + 1, on ? start.datagrams : -1);
    },
    workedMs: () => waiter.workedMs(),
    sleptMs: () => waiter.sleptMs,
    wakeOther: () => raiseWakeup(share.otherWakeup, arena, scratch),
  });
}

/** One for each source, in their order. */
function packetSteps(): readonly PacketStep[] {
  const outbound = out && new OutboundStep(out.outbound, BATCH_PACKETS);
  const answers = outbound ? new AnswerStep(outbound) : undefined;
  const rest = () => waiter.rest(TRAIN_REST_MICROSECONDS);
  return [
    ...(outbound ? [outbound, new ErrorStep(out.listener, out.outbound, ICMP_PACKETS)] : []),
    ...(into
      ? [
          new InboundStep(into.inbound, answers, BATCH_PACKETS, rest),
          new DatagramStep(into.inbound, answers, BATCH_PACKETS),
        ]
      : []),
  ];
}

/** Nothing is lost by standing still: there are no descriptors yet. */
function takeStart(): PacketThreadStart {
  Atomics.wait(setup.gate, 0, 0);
  return (receiveMessageOnPort(setup.port) as { message: PacketThreadStart }).message;
}

function heldPackets({ outbound, hold }: OutboundDirection): RunLoopParts['due'] {
  return hold && { remainingMs: () => hold.remainingMs(), run: () => outbound.retryHeld() };
}

/** The thread is blocked in ppoll, not in an event loop, so messages are fetched after the eventfd woke it. */
function takeMessages(): boolean {
  let firstTable = false;
  for (;;) {
    const received = receiveMessageOnPort(setup.port) as { message: PacketThreadOrder } | undefined;
    if (!received) {
      // Nothing is forwarded before the first table, so this pause costs no packet; later ones would.
      if (firstTable) {
        collectGarbage();
        setFlagsFromString(`--interrupt-budget=${INTERRUPT_BUDGET}`);
      }
      return true;
    }
    const { message } = received;
    if (message.order === 'stop') return false;
    if (message.order === 'frame-ways') {
      out?.frames.clear();
      for (const way of message.ways) out?.frames.set(out.table.peers.slotOf(way.peer), way);
      report(message.id);
      continue;
    }
    tables.forEach((table, i) => {
      table.sweep();
      if (message.order === 'replace') table.lay(message.parts[i]!);
      else for (const operation of message.change.operations) table.apply(operation);
    });
    if (message.order === 'replace') {
      firstTable = !forwards;
      forwards = true;
    }
    if (first) for (const counters of [outboundCounters, inboundCounters]) counters?.add(NOTE_CHANGES, 1);
    report(message.id);
  }
}

function report(id: number): void {
  const applied: Applied = { id };
  setup.port.postMessage(applied);
}
