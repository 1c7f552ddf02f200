/**
 * The kernel's links and IPv4 routes as the control plane of `tunnel run` knows them; `host/` follows them by
 * rtnetlink. All tables, all devices: who may send us what is decided by routes of every device.
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';

export const MAIN_TABLE = 254;

export interface KernelNextHop {
  /** null: the destination itself is on the link. */
  readonly gateway: Ipv4 | null;
  readonly interfaceIndex: number;
  readonly weight: number;
}

export interface KernelRoute {
  readonly prefix: Prefix;
  readonly table: number;
  /** 0 is the most preferred. */
  readonly metric: number;
  /**
   * `local`: an address of this host, or a broadcast address; `refused`: blackhole, unreachable, prohibit; `guard`:
   * the one beneath all others that we put there ourselves (--guard), which says nothing about who sends what.
   */
  readonly type: 'unicast' | 'local' | 'refused' | 'guard';
  /** 0 where the route does not set one. */
  readonly mtu: number;
  readonly nextHops: readonly KernelNextHop[];
}

export interface KernelLink {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  /** Up, and with carrier. */
  readonly running: boolean;
  readonly mtu: number;
  /** `tun`, `ipip`, `veth` …; empty for hardware. */
  readonly type: string;
}

/** Everything, as a dump gives it: of routes with the same prefix, table and metric the effective one first. */
export interface KernelTables {
  readonly links: readonly KernelLink[];
  readonly routes: readonly KernelRoute[];
}

export type KernelChange =
  | { readonly kind: 'link'; readonly change: 'set' | 'deleted'; readonly link: KernelLink }
  | {
      readonly kind: 'route';
      readonly change: 'set' | 'deleted';
      readonly route: KernelRoute;
      /** Before the others with its prefix, table and metric; in the place of the first; or after all. */
      readonly position: 'first' | 'replaced' | 'appended';
    };
