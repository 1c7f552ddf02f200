/** What a running agent says of itself on its unix socket. The version number grows when a field changes its meaning. */

import type { FastPathState } from './fast-path-state.ts';

export const STATUS_VERSION = 1;

export interface AgentPeerStatus {
  readonly node: string | null;
  readonly address: string;
  readonly transport: 'ipip' | 'udp' | 'none';
  readonly outboundPackets: number;
  readonly outboundBytes: number;
  readonly outboundDrops: number;
  readonly inboundPackets: number;
  readonly inboundBytes: number;
  readonly inboundDrops: number;
  readonly inboundSpoofed: number;
  readonly pathMtu: number | null;
}

/** `GET /v1/status` */
export interface AgentStatus {
  readonly version: typeof STATUS_VERSION;
  readonly node: string;
  readonly pid: number;
  /** `degraded`: it forwards, but something that should be is not; `warnings` say what. */
  readonly state: 'starting' | 'running' | 'degraded';
  /** Of the datastore: everything up to this one is in force on the host and in the data plane. Empty before. */
  readonly revision: string;
  readonly startedAt: string;
  readonly address: string | null;
  readonly tunnelAddress: string | null;
  readonly device: { readonly name: string; readonly mtu: number | null };
  readonly transport: string;
  readonly datastore: { readonly url: string; readonly connected: boolean; readonly why: string | null };
  readonly entries: number;
  readonly routes: number;
  readonly peers: readonly AgentPeerStatus[];
  /** Of each direction why the fast path does not run, null where it does; its share is in the counters. */
  readonly fastPath: FastPathState;
  readonly counters: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
}
