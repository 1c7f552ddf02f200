/** What the agent's thread and the packet threads tell each other. */
import type { FrameWay } from '../dataplane/frame-table.ts';
import type { ThreadNumber } from '../dataplane/inbound-ownership.ts';
import type { ForwardingChange } from '../fib/forwarding-config.ts';
import type { SnapshotPart } from '../fib/snapshot-part.ts';

/** What a packet thread is made with: it loads its modules and warms up, and waits at the gate. */
export interface PacketThreadSetup {
  readonly transport: 'ipip' | 'udp' | 'auto';
  /** Of outbound; null where this thread has none of it. */
  readonly outboundCounters: SharedArrayBuffer | null;
  /** Null where this thread never runs inbound. */
  readonly inbound: InboundShare | null;
  readonly wakeup: number;
  /** 1 when the PacketThreadStart has been sent. */
  readonly gate: Int32Array;
  readonly port: import('node:worker_threads').MessagePort;
}

export interface InboundShare {
  readonly thread: ThreadNumber;
  /** Of inbound as far as this thread ran it. */
  readonly counters: SharedArrayBuffer;
  /** Whose inbound is, and what wakes the other thread when it becomes its. */
  readonly ownership: SharedArrayBuffer;
  readonly otherWakeup: number;
}

/** The first message to a packet thread. Descriptors belong to the process; the agent's thread closes them. */
export interface PacketThreadStart {
  /** Its queue, and what inbound writes to. */
  readonly tun: number;
  readonly tunWriter: number;
  /** Whether the TUN speaks UDP superpackets (USO). */
  readonly udpSuperpackets: boolean;
  /** Outbound sends by `sender` and reads `icmp`, which are its thread's alone; inbound receives by `receiver`, which is -1 where protocol 4 is not taken. */
  readonly sender: number;
  readonly receiver: number;
  /** Both ways by UDP, for all threads one; -1 where that transport is off. */
  readonly datagrams: number;
  readonly icmp: number;
  /** Sends frames, for this thread alone; -1 where that is not wanted. */
  readonly frames: number;
  /** Whether packets wait a moment for a route that the table does not have yet. */
  readonly holdUnrouted: boolean;
}

/** To a packet thread; each but 'stop' is answered by an Applied of the same id. */
export type PacketThreadOrder =
  | { readonly order: 'replace'; readonly id: number; readonly parts: readonly SnapshotPart[] }
  | { readonly order: 'change'; readonly id: number; readonly change: ForwardingChange }
  | { readonly order: 'frame-ways'; readonly id: number; readonly ways: readonly FrameWay[] }
  | { readonly order: 'stop' };

/** From a packet thread: it forwards by what was ordered; id 0 says that it runs. */
export interface Applied {
  readonly id: number;
}
