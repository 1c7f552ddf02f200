/**
 * Theory of operation of fib/: the forwarding table as it is told (this file), and as packets ask it.
 *
 *   prefix-table      longest-prefix match, changed entry by entry at a cost that does not grow with the table
 *   peer-table        peers by slot, a small integer for arrays;  peer-groups: next hops and owners, interned
 *   forwarding-table  outbound: inner destination -> peer
 *   source-table      inbound: may this peer send this inner source? with a second's grace for old owners
 *
 * Each packet thread has tables of its own, compiled from the same configuration and changed between two
 * batches: no locks, and no packet sees half a change. Questions allocate nothing; changes may.
 *
 * What crosses from the control plane to the data plane, and nothing else does: a frozen snapshot at start
 * and for resync, and between snapshots changes with consecutive revisions, so that one change costs the
 * same in a table of 100 and of 20,000 prefixes. Applying is idempotent; a gap in the revisions asks for a
 * snapshot. Two sources fill it: Calico's resources (`node run`) and the kernel's routes (`tunnel run`).
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Transport, UnderlayMtu } from '../ip/mtu.ts';
import type { Prefix } from '../ip/prefix.ts';

/** Another encapsulator: a node of ours, or the next hop of a route. Its address is its identity. */
export interface Peer {
  readonly address: Ipv4;
  /** How we send to it; 'none' where the two have no transport in common (a counted drop). */
  readonly transport: Transport | 'none';
  /** Destination port of the `udp` transport; 0 for others. */
  readonly udpPort: number;
  /** MTU of the underlay towards it as configured; a path MTU learned from ICMP may be lower. */
  readonly mtu: UnderlayMtu;
}

/**
 * Where packets for a prefix go: to one of several peers, chosen per flow; or, where the route has no
 * gateway, to the inner destination itself, as the kernel's tunl0 does.
 */
export interface ForwardingEntry {
  readonly prefix: Prefix;
  readonly nextHops: readonly Ipv4[] | 'inner-destination';
}

/**
 * Who may send an inner source of this prefix (longest match wins):
 * - peers by address: only they;
 * - 'any-peer': every known peer (a pool whose block has no owner yet; a default route);
 * - 'local': nobody, it is our own address or block and a packet from outside that claims it is spoofed.
 */
export interface SourceEntry {
  readonly prefix: Prefix;
  readonly owners: readonly Ipv4[] | 'any-peer' | 'local';
}

export interface ForwardingConfig {
  readonly revision: number;
  /** Source of the outer header; null lets the kernel choose by its route to the peer. */
  readonly outerSource: Ipv4 | null;
  /** Outer destinations that are ours; null accepts whatever the kernel delivered to this host. */
  readonly localAddresses: readonly Ipv4[] | null;
  readonly entries: readonly ForwardingEntry[];
  readonly peers: readonly Peer[];
  readonly sources: readonly SourceEntry[];
  /** Hosts that are no peers (externalNodesList, --allow): they may send any inner source that no peer owns and that is not ours. */
  readonly externalSources: readonly Prefix[];
  /**
   * The table follows the kernel's routes, which name next hops and no nodes. Then anybody may send its own
   * address as the inner source; `externalSources` may send whatever is not ours, though a route to it leads
   * elsewhere; and 'any-peer' are the peers that we have a transport to (the others are next hops of routes
   * that do not go through our device).
   */
  readonly byRoutes?: boolean;
}

export type ForwardingOperation =
  | { readonly op: 'set-entry'; readonly entry: ForwardingEntry }
  | { readonly op: 'delete-entry'; readonly prefix: Prefix }
  | { readonly op: 'set-peer'; readonly peer: Peer }
  | { readonly op: 'delete-peer'; readonly address: Ipv4 }
  | { readonly op: 'set-source'; readonly source: SourceEntry }
  | { readonly op: 'delete-source'; readonly prefix: Prefix }
  | {
      readonly op: 'set-local';
      readonly outerSource: Ipv4 | null;
      readonly localAddresses: readonly Ipv4[] | null;
    }
  | { readonly op: 'set-external-sources'; readonly prefixes: readonly Prefix[] };

/** Operations that become visible together. Takes the table from `revision - 1` to `revision`. */
export interface ForwardingChange {
  readonly revision: number;
  readonly operations: readonly ForwardingOperation[];
}

/** The data plane as the control plane sees it. */
export interface ForwardingSink {
  /** Lays a whole table; resolves when both directions forward by it. */
  replace(config: ForwardingConfig): Promise<void>;
  /** Applies one change; 'gap' asks for a replace. Resolves when both directions forward by it. */
  change(change: ForwardingChange): Promise<'applied' | 'gap'>;
}
