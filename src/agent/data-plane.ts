/**
 * The data plane as the rest of the agent sees it: opens the TUN and the sockets, starts the two packet threads,
 * hands them the forwarding table and reads their counters.
 */
import { FailedError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { Counters, NOTE_ICMP_ERRORS } from '../dataplane/counters.ts';
import type { FrameWay } from '../dataplane/frame-table.ts';
import type { ThreadNumber } from '../dataplane/inbound-ownership.ts';
import type { ForwardingChange, ForwardingConfig, ForwardingSink } from '../fib/forwarding-config.ts';
import { buffersOf, inboundPart, outboundPart } from '../fib/snapshot-part.ts';
import { Arena } from '../io/arena.ts';
import { systemCalls } from '../io/libc.ts';
import { inNetworkNamespace } from '../io/netns.ts';
import { openFrameSender } from '../io/packet-socket.ts';
import { openIcmpErrorReceiver, openRawGuard, openRawReceiver, openRawSender } from '../io/raw-socket.ts';
import { openTun, type Tun } from '../io/tun.ts';
import { openDatagramSocket } from '../io/udp-socket.ts';
import { raiseWakeup } from '../io/waiter.ts';
import { type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import type { Applied, PacketThreadOrder } from './data-plane-messages.ts';
import type { FastPathState } from './fast-path-state.ts';
import type { SenderMode } from './options.ts';
import { newPacketThreads, type PacketThread } from './packet-threads.ts';
import type { SenderState } from './sender-state.ts';

const THREADS = 2;
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
  /** Wakes both threads, waits for their end and closes everything; the persistent TUN stays. */
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
  /** Such as were made for this transport before; else they are made now. */
  readonly threads?: readonly PacketThread[] | undefined;
  /** Where device and sockets are to be, other than in our own network namespace. */
  readonly networkNamespace?: string;
}

/** Starts both threads; they drop everything as `no_route` and unknown sources until the first replace. */
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
    { device: descriptors.tun.name, offloads: descriptors.tun.offloads },
    'both directions of the data plane run',
  );
  return plane;
}

interface Descriptors {
  readonly tun: Tun;
  readonly sender: number;
  /** -1 where protocol 4 is not taken: the kernel then answers it with "protocol unreachable". */
  readonly receiver: number;
  /** Keeps that answer away while the receiver's buffer is full. */
  readonly guard: number;
  /** -1 where the `udp` transport is off. */
  readonly datagrams: number;
  readonly icmp: number;
  /** -1 where no frames are sent. */
  readonly frames: number;
}

/** All or nothing: what was opened before a failure is closed again. */
function openDescriptors(options: DataPlaneOptions): Descriptors {
  const { device, transport, udpPort } = options;
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const sockets = {
      sender: keep(openRawSender()),
      guard: transport === 'udp' ? -1 : keep(openRawGuard()),
      receiver: transport === 'udp' ? -1 : keep(openRawReceiver()),
      datagrams: transport === 'ipip' ? -1 : keep(openDatagramSocket(udpPort)),
      icmp: keep(openIcmpErrorReceiver()),
      frames: openFrames(options, keep),
    };
    // Last: attaching gives the device its carrier, which is to tell the truth.
    const tun = openTun(device, 'tcp+udp');
    keep(tun.fd);
    return { tun, ...sockets };
  } catch (error) {
    for (const fd of opened) systemCalls().close(fd);
    throw error;
  }
}

/** -1 where none are wanted, or where `auto` cannot have them, as under a service manager that forbids AF_PACKET. */
function openFrames({ sender = 'raw', logger }: DataPlaneOptions, keep: (fd: number) => number): number {
  if (sender === 'raw') return -1;
  try {
    return keep(openFrameSender());
  } catch (error) {
    if (sender === 'packet') throw error;
    logger.warn({}, `outer packets go by raw sockets: ${(error as Error).message}`);
    return -1;
  }
}

interface RunningThread extends PacketThread {
  readonly exited: Promise<void>;
}

/** By peer: the sums of packets, bytes, drops and the extra row. */
function peerRows(all: readonly Counters[]): ReadonlyMap<number, readonly number[]> {
  const rows = new Map<number, number[]>();
  for (const counters of all)
    for (const [address, ...cells] of counters.peers()) {
      const known = rows.get(address);
      rows.set(address, known ? known.map((sum, i) => sum + cells[i]!) : cells);
    }
  return rows;
}

class ThreadedDataPlane implements DataPlane {
  readonly device: { readonly name: string; readonly index: number };
  readonly setFrameWays: DataPlane['setFrameWays'];
  readonly #descriptors: Descriptors;
  readonly #onExit: (error: Error) => void;
  readonly #holdUnrouted: boolean;
  readonly #threads: readonly RunningThread[];
  readonly #outbound: Counters;
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
    if (descriptors.frames >= 0)
      this.setFrameWays = (ways) => this.#order((id) => ({ order: 'frame-ways', id, ways }));
    this.#onExit = options.onExit;
    this.#holdUnrouted = options.holdUnrouted ?? false;
    this.#ready = this.#answers(0);
    const threads = options.threads ?? newPacketThreads(options.transport);
    this.#outbound = new Counters('outbound', threads[0]!.outboundCounters);
    this.#inbound = threads.map((thread) => new Counters('inbound', thread.inboundCounters));
    this.#threads = threads.map((thread) => this.#run(thread));
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
    // Both threads need inbound's, so the first gets a copy of it.
    await this.#order(
      (id, thread) => ({ order: 'replace', id, parts: thread === 0 ? [outbound, inbound] : [inbound] }),
      (thread) => buffersOf(thread === 0 ? outbound : inbound),
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
    return this.#outbound.cells[NOTE_ICMP_ERRORS]!;
  }

  counters(): Record<string, number> {
    const totals = this.#outbound.snapshot();
    for (const counters of this.#inbound)
      for (const [name, count] of Object.entries(counters.snapshot()))
        totals[name] = (totals[name] ?? 0) + count;
    return totals;
  }

  peers(): readonly PeerCounters[] {
    const outbound = peerRows([this.#outbound]);
    const inbound = peerRows(this.#inbound);
    const addresses = [...new Set([...outbound.keys(), ...inbound.keys()])].sort((a, b) => a - b);
    return addresses.map((address) => {
      const out = outbound.get(address);
      const into = inbound.get(address);
      return {
        address: ipv4FromNumber(address),
        outboundPackets: out?.[0] ?? 0,
        outboundBytes: out?.[1] ?? 0,
        outboundDrops: out?.[2] ?? 0,
        inboundPackets: into?.[0] ?? 0,
        inboundBytes: into?.[1] ?? 0,
        inboundDrops: into?.[2] ?? 0,
        inboundSpoofed: into?.[3] ?? 0,
        pathMtu: out?.[3] || null,
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
    const { tun, sender, receiver, guard, datagrams, icmp, frames } = this.#descriptors;
    for (const fd of [tun.fd, sender, receiver, guard, datagrams, icmp, frames])
      if (fd >= 0) systemCalls().close(fd);
  }

  #run(thread: PacketThread): RunningThread {
    const { worker, port } = thread;
    port.on('message', (message: Applied) => this.#answered(message.id));
    worker.on('error', (error) => this.#failed(error));
    const exited = new Promise<void>((resolve) => {
      worker.on('exit', (code) => {
        if (!this.#stopping) this.#failed(new Error(`it ended with ${code}`));
        resolve();
      });
    });
    const { tun, sender, receiver, datagrams, icmp, frames } = this.#descriptors;
    const udpSuperpackets = tun.offloads === 'tcp+udp';
    thread.begin({
      ...{ tun: tun.fd, udpSuperpackets, sender, receiver, datagrams, icmp, frames },
      holdUnrouted: this.#holdUnrouted,
    });
    return { ...thread, exited };
  }

  /** `handedOver`: memory in the order that goes to the thread and is ours no longer. */
  #order(
    make: (id: number, thread: ThreadNumber) => PacketThreadOrder,
    handedOver: (thread: ThreadNumber) => ArrayBuffer[] = () => [],
  ): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const answers = this.#answers(id);
    for (const thread of this.#threads)
      this.#send(thread, make(id, thread.number), handedOver(thread.number));
    return answers;
  }

  #send(thread: RunningThread, order: PacketThreadOrder, handedOver: ArrayBuffer[] = []): void {
    thread.port.postMessage(order, handedOver);
    raiseWakeup(thread.wakeup, this.#scratch, 0);
  }

  #answers(id: number): Promise<void> {
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
        missing: THREADS,
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
