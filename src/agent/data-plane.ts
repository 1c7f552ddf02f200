/** The data plane as the rest of the agent sees it. */
import type { ForwardingSink } from '../fib/forwarding-config.ts';
import type { Ipv4 } from '../ip/ipv4.ts';

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
  peers(): readonly PeerCounters[];
  /** Wakes both workers, waits for their end and closes everything; the persistent TUN stays. */
  stop(): Promise<void>;
}
