/**
 * The two packet threads before they have anything to do. A thread takes a fifth of a second to read its modules and
 * warm up, and needs nothing of the host for that; so a command starts them first, and the data plane that takes them
 * later gives them their descriptors. Those that nobody takes end with the process.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { installedFile } from '../base/installation.ts';
import { createCounterMemory } from '../dataplane/counters.ts';
import { createOwnershipMemory, type ThreadNumber } from '../dataplane/inbound-ownership.ts';
import { openWakeup } from '../io/waiter.ts';
import type { PacketThreadSetup, PacketThreadStart } from './data-plane-messages.ts';

const YOUNG_GENERATION_MB = 6;

export interface PacketThread {
  readonly number: ThreadNumber;
  readonly worker: Worker;
  readonly port: MessagePort;
  /** Closed by who takes the thread. */
  readonly wakeup: number;
  /** Of outbound, for both the same; of inbound what this thread did. */
  readonly outboundCounters: SharedArrayBuffer;
  readonly inboundCounters: SharedArrayBuffer;
  /** Ends the wait for descriptors; called once. */
  begin(start: PacketThreadStart): void;
}

/** Both. `transport` decides what they warm up for. */
export function newPacketThreads(transport: 'ipip' | 'udp' | 'auto'): readonly PacketThread[] {
  const wakeups = [openWakeup(), openWakeup()] as const;
  const outboundCounters = createCounterMemory();
  const ownership = createOwnershipMemory();
  return ([0, 1] as const).map((thread) =>
    newPacketThread({
      ...{ thread, transport, outboundCounters, ownership },
      inboundCounters: createCounterMemory(),
      wakeup: wakeups[thread],
      otherWakeup: wakeups[thread === 0 ? 1 : 0],
    }),
  );
}

function newPacketThread(shared: Omit<PacketThreadSetup, 'gate' | 'port'>): PacketThread {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const setup: PacketThreadSetup = { ...shared, gate, port: port2 };
  const worker = new Worker(installedFile('dist/agent/data-plane-worker.js'), {
    name: `tortie-packets-${shared.thread}`,
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
  const { thread, wakeup, outboundCounters, inboundCounters } = shared;
  return { number: thread, worker, port: port1, wakeup, outboundCounters, inboundCounters, begin };
}
