/**
 * What `node run` and `tunnel run` say of themselves on their unix sockets. A version number grows when a field
 * changes its meaning; each of the two has its own.
 */
import type { PeerCounters } from './data-plane.ts';
import type { FastPathState } from './fast-path-state.ts';
import type { SenderState } from './sender-state.ts';

/** One next hop: what went to it, came from it, and was dropped on its account. */
export interface PeerStatus extends Omit<PeerCounters, 'address'> {
  readonly address: string;
  /** `none`: of `node run`, no common transport; of `tunnel run`, a next hop of routes beside the device only. */
  readonly transport: 'ipip' | 'udp' | 'none';
}

/** What both say. */
export interface Status<Peer extends PeerStatus = PeerStatus> {
  readonly version: number;
  readonly pid: number;
  /** `degraded`: it forwards, or will again, but something that should be is not; `warnings` say what. */
  readonly state: 'starting' | 'running' | 'degraded';
  readonly startedAt: string;
  readonly transport: string;
  /** Of the forwarding table, and of the host's routes: those written or, of `tunnel run`, those followed. */
  readonly entries: number;
  readonly routes: number;
  readonly peers: readonly Peer[];
  /** Of each direction why the fast path does not run, null where it does; its share is in the counters. */
  readonly fastPath: FastPathState;
  /** How protocol 4 leaves, other than by the fast path. */
  readonly sender: SenderState;
  /** Packets by each queue of the device, other than by the fast path. */
  readonly queues: readonly number[];
  readonly counters: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
}

export const AGENT_STATUS_VERSION = 1;

export interface AgentPeerStatus extends PeerStatus {
  readonly node: string | null;
}

/** `GET /v1/status` of `node run` */
export interface AgentStatus extends Status<AgentPeerStatus> {
  readonly version: typeof AGENT_STATUS_VERSION;
  readonly node: string;
  /** Of the datastore: everything up to this one is in force on the host and in the data plane. Empty before. */
  readonly revision: string;
  readonly address: string | null;
  readonly tunnelAddress: string | null;
  readonly device: { readonly name: string; readonly mtu: number | null };
  readonly datastore: { readonly url: string; readonly connected: boolean; readonly why: string | null };
}

export const TUNNEL_STATUS_VERSION = 1;

/** `GET /v1/status` of `tunnel run` */
export interface TunnelStatus extends Status {
  readonly version: typeof TUNNEL_STATUS_VERSION;
  readonly device: {
    /** Its name now; `wanted` is what it was asked for. */
    readonly name: string;
    readonly wanted: string;
    readonly index: number | null;
    readonly mtu: number | null;
    readonly up: boolean;
    readonly carrier: boolean;
  };
  readonly local: string | null;
  /** CIDRs that do not leave plain while other people's routes are gone. */
  readonly guard: readonly string[];
  /** Of the forwarding table: grows by one with each change in force. */
  readonly revision: number;
  readonly lastChange: { readonly at: string; readonly what: string; readonly operations: number } | null;
  /** How often the kernel's tables were read as a whole, and how often because messages were lost. */
  readonly dumps: number;
  readonly overruns: number;
}
