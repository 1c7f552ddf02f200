/**
 * The data plane as the rest of the agent sees it: opens the TUN and the sockets, starts the packet threads,
 * hands them the forwarding table and reads their counters.
 */
import { FailedError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { Counters, IN_PACKETS, NOTE_ICMP_ERRORS } from '../dataplane/counters.ts';
import type { FrameWay } from '../dataplane/frame-table.ts';
import type { ForwardingChange, ForwardingConfig, ForwardingSink } from '../fib/forwarding-config.ts';
import { buffersOf, inboundPart, outboundPart } from '../fib/snapshot-part.ts';
import { Arena } from '../io/arena.ts';
import { systemCalls } from '../io/libc.ts';
import { inNetworkNamespace } from '../io/netns.ts';
import { raiseWakeup } from '../io/waiter.ts';
import { type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { type Descriptors, openDescriptors } from './data-plane-descriptors.ts';
import type { Applied, PacketThreadOrder } from './data-plane-messages.ts';
import type { SenderMode } from './data-plane-settings.ts';
import type { FastPathState } from './fast-path-state.ts';
import { newPacketThreads, type PacketThread, type PacketThreadRole } from './packet-threads.ts';
import type { SenderState } from './sender-state.ts';

/** A thread answers within microseconds; one that does not within this is stuck. */
const ANSWER_DEADLINE_MS = 10_000;

/** What went to and came from one peer, and what was dropped on its account. */
export interface PeerCounters {
  readonly address: Ipv4;
  readonly outboundPackets: number;
  readonly outboundBytes: number;
  readonly outboundDrops: number;
  readonly inboundPackets: number;
  readonly inboundBytes: number;
  readonly inboundDrops: number;
  /** Of the inbound drops, those whose inner source was not this peer's to send. */
  readonly inboundSpoofed: number;
  /** Path MTU of the underlay learned from ICMP, where lower than configured; else null. */
  readonly pathMtu: number | null;
}

export interface DataPlane extends ForwardingSink {
  readonly device: { readonly name: string; readonly index: number };
  /** The revision that both directions forward by; 0 before the first replace. */
  readonly revision: number;
  /** Every counter by its name of docs/counters.md. */
  counters(): Record<string, number>;
  /** `outbound_note_icmp_errors_packets` alone, for who asks often. */
  icmpErrors(): number;
  peers(): readonly PeerCounters[];
  /** Where there is one: of each direction why the fast path does not run, null where it does. */
  fastPath?(): FastPathState;
  /** How protocol 4 leaves; absent where nobody decides about it. */
  sender?(): SenderState;
  /** By which peers are reached past the kernel's IP output; all others by raw sockets. Absent where it sends no frames. */
  readonly setFrameWays?: ((ways: readonly FrameWay[]) => Promise<void>) | undefined;
  /** How many packets came by each queue of the device; absent where that is not told. */
  queues?(): readonly number[];
  /** Wakes all threads, waits for their end and closes everything; the persistent TUN stays. */
  stop(): Promise<void>;
}

export interface DataPlaneOptions {
  /** The TUN device's name; it is made where it does not exist, and stays when we stop. */
  readonly device: string;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly udpPort: number;
  readonly logger: Logger;
  /** A packet thread ended by itself: not everything is forwarded any more. */
  readonly onExit: (error: Error) => void;
  /** Whether packets wait a moment for a route that the table does not have yet; else they are dropped at once. */
  readonly holdUnrouted?: boolean;
  /** Whether protocol 4 may leave as frames of our own: `auto` does without where the socket for them is refused. */
  readonly sender?: SenderMode;
  /** Of the device: 1, or so many that outbound is spread over. */
  readonly queues?: number | undefined;
  /** Such as were made for this transport and these queues before; else they are made now. */
  readonly threads?: readonly PacketThread[] | undefined;
  /** Where device and sockets are to be, other than in our own network namespace. */
  readonly networkNamespace?: string;
}

/** Starts all threads; they drop everything as `no_route` and unknown sources until the first replace. */
export async function startDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const open = () => openDescriptors(options);
  const descriptors =
    options.networkNamespace === undefined ? open() : inNetworkNamespace(options.networkNamespace, open);
  const plane = new ThreadedDataPlane(descriptors, options);
  try {
    await plane.started();
  } catch (error) {
    await plane.stop();
    throw error;
  }
  options.logger.info(
    {
      device: descriptors.tun.name,
      offloads: descriptors.tun.offloads,
      queues: descriptors.tun.queues.length,
    },
    'both directions of the data plane run',
  );
  return plane;
}

interface RunningThread extends PacketThread {
  readonly exited: Promise<void>;
}

type PeerRow = ReturnType<Counters['peers']>[number];

/** By peer: address, and the sums of packets, bytes, drops and the extra row. */
function peerRows(all: readonly Counters[]): ReadonlyMap<number, PeerRow> {
  const rows = new Map<number, PeerRow>();
  for (const counters of all)
    for (const row of counters.peers()) {
      const known = rows.get(row[0]);
      rows.set(row[0], known ? sumOf(known, row) : row);
    }
  return rows;
}

function sumOf(a: PeerRow, b: PeerRow): PeerRow {
  return [a[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]];
}

class ThreadedDataPlane implements DataPlane {
  readonly device: { readonly name: string; readonly index: number };
  readonly setFrameWays: DataPlane['setFrameWays'];
  readonly #descriptors: Descriptors;
  readonly #onExit: (error: Error) => void;
  readonly #holdUnrouted: boolean;
  readonly #threads: readonly RunningThread[];
  /** By queue. */
  readonly #outbound: readonly Counters[];
  /** Of the inbound direction each thread counts what it did. */
  readonly #inbound: readonly Counters[];
  readonly #scratch = new Arena(8);
  /** Orders that not every thread has answered yet; id 0 is the start. */
  readonly #waiting = new Map<number, { missing: number; resolve: () => void; reject: (e: Error) => void }>();
  readonly #ready: Promise<void>;
  #nextId = 1;
  #revision = 0;
  #orderedRevision = 0;
  #stopping: Promise<void> | undefined;
  #failure: Error | undefined;

  constructor(descriptors: Descriptors, options: DataPlaneOptions) {
    this.#descriptors = descriptors;
    this.device = { name: descriptors.tun.name, index: descriptors.tun.index };
    if (descriptors.queues[0]!.frames >= 0)
      this.setFrameWays = (ways) => this.#order((id) => ({ order: 'frame-ways', id, ways }));
    this.#onExit = options.onExit;
    this.#holdUnrouted = options.holdUnrouted ?? false;
    const threads = options.threads ?? newPacketThreads(options.transport, descriptors.queues.length);
    const withQueue = threads.filter(({ outboundCounters }) => outboundCounters !== null);
    this.#outbound = withQueue.map((thread) => new Counters('outbound', thread.outboundCounters!));
    this.#inbound = threads.flatMap(({ inboundCounters: memory }) =>
      memory === null ? [] : [new Counters('inbound', memory)],
    );
    this.#ready = this.#answers(0, threads.length);
    this.#threads = threads.map((thread) => this.#run(thread, Math.max(withQueue.indexOf(thread), 0)));
  }

  get revision(): number {
    return this.#revision;
  }

  started(): Promise<void> {
    return this.#ready;
  }

  async replace(config: ForwardingConfig): Promise<void> {
    this.#orderedRevision = config.revision;
    const [outbound, inbound] = [outboundPart(config), inboundPart(config)];
    const parts = { queue: [outbound], first: [outbound, inbound], relief: [inbound] };
    // In the order of the threads: each but the last that needs a part gets a copy of it.
    const handedOver = { queue: [], first: buffersOf(outbound), relief: buffersOf(inbound) };
    await this.#order(
      (id, role) => ({ order: 'replace', id, parts: parts[role] }),
      (role) => handedOver[role],
    );
    this.#revision = config.revision;
  }

  async change(change: ForwardingChange): Promise<'applied' | 'gap'> {
    // The same revision again is harmless: every operation sets or deletes by key.
    if (change.revision !== this.#orderedRevision + 1 && change.revision !== this.#orderedRevision)
      return 'gap';
    this.#orderedRevision = change.revision;
    await this.#order((id) => ({ order: 'change', id, change }));
    this.#revision = change.revision;
    return 'applied';
  }

  icmpErrors(): number {
    return this.#outbound.reduce((sum, { cells }) => sum + cells[NOTE_ICMP_ERRORS]!, 0);
  }

  counters(): Record<string, number> {
    const totals: Record<string, number> = {};
    for (const counters of [...this.#outbound, ...this.#inbound])
      for (const [name, count] of Object.entries(counters.snapshot()))
        totals[name] = (totals[name] ?? 0) + count;
    return totals;
  }

  queues(): readonly number[] {
    return this.#outbound.map(({ cells }) => cells[IN_PACKETS]!);
  }

  peers(): readonly PeerCounters[] {
    const outbound = peerRows(this.#outbound);
    const inbound = peerRows(this.#inbound);
    const addresses = [...new Set([...outbound.keys(), ...inbound.keys()])].sort((a, b) => a - b);
    return addresses.map((address) => {
      const out = outbound.get(address);
      const into = inbound.get(address);
      return {
        address: ipv4FromNumber(address),
        outboundPackets: out?.[1] ?? 0,
        outboundBytes: out?.[2] ?? 0,
        outboundDrops: out?.[3] ?? 0,
        inboundPackets: into?.[1] ?? 0,
        inboundBytes: into?.[2] ?? 0,
        inboundDrops: into?.[3] ?? 0,
        inboundSpoofed: into?.[4] ?? 0,
        pathMtu: out?.[4] || null,
      };
    });
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    for (const thread of this.#threads) this.#send(thread, { order: 'stop' });
    await Promise.all(this.#threads.map((thread) => thread.exited));
    for (const thread of this.#threads) {
      thread.port.close();
      systemCalls().close(thread.wakeup);
    }
    this.#descriptors.close();
  }

  /** `queue`: of the TUN, which the thread's outbound reads. */
  #run(thread: PacketThread, queue: number): RunningThread {
    const { worker, port } = thread;
    port.on('message', (message: Applied) => this.#answered(message.id));
    worker.on('error', (error) => this.#failed(error));
    const exited = new Promise<void>((resolve) => {
      worker.on('exit', (code) => {
        if (!this.#stopping) this.#failed(new Error(`it ended with ${code}`));
        resolve();
      });
    });
    const { tun, receiver, datagrams, queues } = this.#descriptors;
    const udpSuperpackets = tun.offloads === 'tcp+udp';
    thread.begin({
      ...{ tun: tun.queues[queue]!, tunWriter: tun.writer, ...queues[queue]! },
      ...{ udpSuperpackets, receiver, datagrams },
      holdUnrouted: this.#holdUnrouted,
    });
    return { ...thread, exited };
  }

  /** `handedOver`: memory in the order that goes to the thread and is ours no longer. */
  #order(
    make: (id: number, role: PacketThreadRole) => PacketThreadOrder,
    handedOver: (role: PacketThreadRole) => ArrayBuffer[] = () => [],
  ): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const answers = this.#answers(id, this.#threads.length);
    for (const thread of this.#threads) this.#send(thread, make(id, thread.role), handedOver(thread.role));
    return answers;
  }

  #send(thread: RunningThread, order: PacketThreadOrder, handedOver: ArrayBuffer[] = []): void {
    thread.port.postMessage(order, handedOver);
    raiseWakeup(thread.wakeup, this.#scratch, 0);
  }

  #answers(id: number, missing: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(
          new FailedError('ERR_DATA_PLANE', `a packet thread did not answer within ${ANSWER_DEADLINE_MS} ms`),
        );
      }, ANSWER_DEADLINE_MS);
      const settled =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          this.#waiting.delete(id);
          then(value);
        };
      this.#waiting.set(id, {
        missing,
        resolve: settled<void>(resolve),
        reject: settled(reject),
      });
    });
  }

  #answered(id: number): void {
    const waiting = this.#waiting.get(id);
    if (waiting && --waiting.missing === 0) waiting.resolve();
  }

  #failed(cause: Error): void {
    if (this.#failure) return;
    const error = new FailedError('ERR_DATA_PLANE', `a packet thread stopped: ${cause.message}`, { cause });
    this.#failure = error;
    for (const waiting of [...this.#waiting.values()]) waiting.reject(error);
    if (!this.#stopping) this.#onExit(error);
  }
}
