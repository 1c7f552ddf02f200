/**
 * What the control plane asks of the host: facts to decide from, the state of what is ours, and steps to
 * change it. `host/` implements it by running `ip` and `nft`; tests use an in-memory twin.
 *
 * Ours are: routes of the main table with protocol number 84, the nftables table `ip tortie`, the tunnel
 * device's address, MTU and state, and the sysctls named in HostState. Nothing else is ever changed.
 */
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix, type InterfaceAddress, type Prefix } from '../ip/prefix.ts';

/** The `proto` of our routes. Felix writes 80, BIRD 12; a number nobody else uses makes ours recognisable. */
export const ROUTE_PROTOCOL = 84;

/** A kernel route of ours; there is at most one per prefix. */
export type HostRoute =
  /** An own block: what no longer route claims dies here instead of looping by the default route. */
  | { readonly type: 'blackhole'; readonly prefix: Prefix }
  /** A local workload's address, by the host's end of its veth. */
  | { readonly type: 'workload'; readonly prefix: Prefix; readonly device: string }
  /** Plain: to the node itself on our link, or to the router that leads to it. */
  | { readonly type: 'plain'; readonly prefix: Prefix; readonly via: Ipv4; readonly device: string }
  /** Into the tunnel device; `via` is the node (for people: the data plane has its own table). */
  | { readonly type: 'encapsulated'; readonly prefix: Prefix; readonly via: Ipv4; readonly device: string };

/** A route as `ip route` takes it and (but for the blank at the end) prints it. */
export function formatRoute(route: HostRoute): string {
  const to = route.prefix.length === 32 ? formatIpv4(route.prefix.address) : formatPrefix(route.prefix);
  switch (route.type) {
    case 'blackhole':
      return `blackhole ${to} proto ${ROUTE_PROTOCOL}`;
    case 'workload':
      return `${to} dev ${route.device} proto ${ROUTE_PROTOCOL} scope link`;
    case 'plain':
      return `${to} via ${formatIpv4(route.via)} dev ${route.device} proto ${ROUTE_PROTOCOL}`;
    case 'encapsulated':
      return `${to} via ${formatIpv4(route.via)} dev ${route.device} proto ${ROUTE_PROTOCOL} onlink`;
  }
}

export function isSameRoute(a: HostRoute, b: HostRoute): boolean {
  if (a.type !== b.type || a.prefix.address !== b.prefix.address || a.prefix.length !== b.prefix.length)
    return false;
  const [deviceA, deviceB] = ['device' in a ? a.device : '', 'device' in b ? b.device : ''];
  return deviceA === deviceB && ('via' in a ? a.via : 0) === ('via' in b ? b.via : 0);
}

/** What the nftables table `ip tortie` says. */
export interface PacketRules {
  /** Masquerade what comes from `natPools` and goes to none of `pools`. */
  readonly pools: readonly Prefix[];
  readonly natPools: readonly Prefix[];
  /** What leaves by `device` with a local source that is not `tunnelAddress` gets `tunnelAddress`; null: no rule. */
  readonly device: string;
  readonly tunnelAddress: Ipv4 | null;
  /** Protocol 4 and this UDP port are dropped where they come from a workload's interface. */
  readonly udpPort: number;
}

/** Host interfaces of workloads have names that begin so. */
export const WORKLOAD_INTERFACE_PREFIX = 'cali';

export interface TunnelDevice {
  readonly name: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Every IPv4 address on it; wanted is at most one, the tunnel address with /32. */
  readonly addresses: readonly InterfaceAddress[];
}

/** What is ours on the host: the desired and the observed state have one shape. */
export interface HostState {
  /** By `formatPrefix(route.prefix)`. */
  readonly routes: ReadonlyMap<string, HostRoute>;
  /** null where it does not exist. */
  readonly device: TunnelDevice | null;
  /** `net/ipv4/ip_forward` -> `1`: the path below /proc/sys, since interface names may hold dots. */
  readonly sysctls: ReadonlyMap<string, string>;
  /** null where the table is absent, or is not as we last wrote it. */
  readonly rules: PacketRules | null;
}

export interface HostLink {
  readonly name: string;
  readonly index: number;
  readonly mtu: number;
  readonly up: boolean;
  /** `veth`, `ipip`, `tun`, …; empty for hardware. */
  readonly kind: string;
  /** The effective rp_filter, the greater of `all` and its own: 0 off, 1 strict, 2 loose. */
  readonly reversePathFilter: number;
}

export interface HostAddress extends InterfaceAddress {
  readonly device: string;
}

/** A route of the main table that is not ours. */
export interface ForeignRoute {
  readonly prefix: Prefix;
  readonly via: Ipv4 | null;
  readonly device: string | null;
  readonly metric: number;
}

/** What the host is like, apart from what is ours. */
export interface HostFacts {
  readonly links: readonly HostLink[];
  readonly addresses: readonly HostAddress[];
  readonly routes: readonly ForeignRoute[];
}

export type PlanStep =
  | { readonly op: 'set-route'; readonly route: HostRoute }
  | { readonly op: 'delete-route'; readonly prefix: Prefix }
  | { readonly op: 'add-address'; readonly device: string; readonly address: InterfaceAddress }
  | { readonly op: 'delete-address'; readonly device: string; readonly address: InterfaceAddress }
  | { readonly op: 'set-mtu'; readonly device: string; readonly mtu: number }
  | { readonly op: 'set-up'; readonly device: string }
  | { readonly op: 'set-sysctl'; readonly name: string; readonly value: string }
  | { readonly op: 'set-rules'; readonly rules: PacketRules };

/** A step that the host refused; it stays wanted and is tried again. */
export interface FailedStep {
  readonly step: PlanStep;
  readonly reason: string;
}

/** What the host told while we watched it. */
export type HostEvent =
  /** A route with our protocol number came or went. */
  | { readonly type: 'own-route'; readonly change: 'set' | 'deleted'; readonly route: HostRoute }
  /** A link, an address or somebody else's route changed: facts and decisions may be stale. */
  | { readonly type: 'facts' };

export interface HostNetwork {
  facts(): Promise<HostFacts>;
  /** The state of what is ours, for the device and the sysctls that are asked for; `settings`: without the routes. */
  observe(device: string, sysctls: Iterable<string>, what?: 'all' | 'settings'): Promise<HostState>;
  /** Those of the sysctls that exist. */
  readSysctls(names: Iterable<string>): Promise<ReadonlyMap<string, string>>;
  /** Takes the steps in order; gives those that failed, and goes on after them. */
  apply(steps: readonly PlanStep[]): Promise<readonly FailedStep[]>;
  /** Tells what changes until the signal aborts; may tell too much, never too little for long (callers re-check anyway). */
  watch(onEvent: (event: HostEvent) => void, signal: AbortSignal): void;
}
