/**
 * The two packet threads before they have anything to do. A thread takes a fifth of a second to read its modules and
 * warm up, and needs nothing of the host for that; so a command starts them first, and the data plane that takes them
 * later gives them their descriptors. Those that nobody takes end with the process.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { installedFile } from '../base/installation.ts';
import { createCounterMemory, type Direction } from '../dataplane/counters.ts';
import { openWakeup } from '../io/waiter.ts';
import type { PacketThreadSetup, PacketThreadStart } from './data-plane-messages.ts';

const DIRECTIONS: readonly Direction[] = ['outbound', 'inbound'];
const YOUNG_GENERATION_MB = 6;

export interface PacketThread {
  readonly direction: Direction;
  readonly worker: Worker;
  readonly port: MessagePort;
  /** Closed by who takes the thread. */
  readonly wakeup: number;
  readonly counterMemory: SharedArrayBuffer;
  /** Ends the wait for descriptors; called once. */
  begin(start: PacketThreadStart): void;
}

/** One per direction. `transport` decides what they warm up for. */
export function newPacketThreads(transport: 'ipip' | 'udp' | 'auto'): readonly PacketThread[] {
  return DIRECTIONS.map((direction) => newPacketThread(direction, transport));
}

function newPacketThread(direction: Direction, transport: 'ipip' | 'udp' | 'auto'): PacketThread {
  const counterMemory = createCounterMemory();
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const wakeup = openWakeup();
  const setup: PacketThreadSetup = { direction, transport, counterMemory, wakeup, gate, port: port2 };
  const worker = new Worker(installedFile('dist/agent/data-plane-worker.js'), {
    name: `tortie-${direction}`,
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
  return { direction, worker, port: port1, wakeup, counterMemory, begin };
}
