/**
 * The packet threads before they have anything to do: two, and one for each further queue of the TUN. A thread takes a
 * fifth of a second to read its modules and warm up, and needs nothing of the host for that; so a command starts them
 * first, and the data plane that takes them later gives them their descriptors. Those that nobody takes end with the
 * process.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { installedFile } from '../base/installation.ts';
import { createCounterMemory } from '../dataplane/counters.ts';
import { createOwnershipMemory } from '../dataplane/inbound-ownership.ts';
import { openWakeup } from '../io/waiter.ts';
import type { PacketThreadSetup, PacketThreadStart } from './data-plane-messages.ts';

const YOUNG_GENERATION_MB = 6;

/** Both directions; inbound while that is too much for one; outbound for a further queue. */
export type PacketThreadRole = 'first' | 'relief' | 'queue';

export interface PacketThread {
  readonly role: PacketThreadRole;
  readonly worker: Worker;
  readonly port: MessagePort;
  /** Closed by who takes the thread. */
  readonly wakeup: number;
  /** Of what this thread did; null of a direction that it never runs. */
  readonly outboundCounters: SharedArrayBuffer | null;
  readonly inboundCounters: SharedArrayBuffer | null;
  /** Ends the wait for descriptors; called once. */
  begin(start: PacketThreadStart): void;
}

/**
 * All that a TUN with so many queues needs, those of further queues first. `transport` decides what they warm up for.
 */
export function newPacketThreads(
  transport: 'ipip' | 'udp' | 'auto',
  queues: number,
): readonly PacketThread[] {
  const wakeups = [openWakeup(), openWakeup()] as const;
  const ownership = createOwnershipMemory();
  const further = Array.from({ length: queues - 1 }, () =>
    newPacketThread('queue', {
      ...{ transport, wakeup: openWakeup(), inbound: null },
      outboundCounters: createCounterMemory(),
    }),
  );
  const duplex = ([0, 1] as const).map((thread) =>
    newPacketThread(thread === 0 ? 'first' : 'relief', {
      ...{ transport, wakeup: wakeups[thread] },
      outboundCounters: thread === 0 ? createCounterMemory() : null,
      inbound: {
        ...{ thread, ownership },
        counters: createCounterMemory(),
        otherWakeup: wakeups[thread === 0 ? 1 : 0],
      },
    }),
  );
  return [...further, ...duplex];
}

function newPacketThread(
  role: PacketThreadRole,
  shared: Omit<PacketThreadSetup, 'gate' | 'port'>,
): PacketThread {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const setup: PacketThreadSetup = { ...shared, gate, port: port2 };
  const worker = new Worker(installedFile('dist/agent/data-plane-worker.js'), {
    name: `tortie-packets-${role}`,
    workerData: setup,
    transferList: [port2],
    // Packets allocate nothing; what a table brings is read once and forgotten.
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  worker.unref();
  const begin = (start: PacketThreadStart): void => {
    worker.ref();
    port1.postMessage(start);
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
  };
  const { wakeup, outboundCounters, inbound } = shared;
  const inboundCounters = inbound?.counters ?? null;
  return { role, worker, port: port1, wakeup, outboundCounters, inboundCounters, begin };
}
