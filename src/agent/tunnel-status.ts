/** What `tortie tunnel run` says of itself on its unix socket, and what on the host would spoil its work. */
import type { KernelLink } from '../control/kernel-tables.ts';
import { readSysctl } from '../host/sysctl.ts';
import { formatPrefix, type Prefix } from '../ip/prefix.ts';
import type { FastPathState } from './fast-path-state.ts';

export const TUNNEL_STATUS_VERSION = 1;
/** Of disputed prefixes so many are named. */
const NAMED_PREFIXES = 3;

export interface TunnelPeerStatus {
  readonly address: string;
  /** `none`: a next hop of routes beside our device; it may send to us, we do not send to it. */
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
export interface TunnelStatus {
  readonly version: typeof TUNNEL_STATUS_VERSION;
  readonly pid: number;
  /** `degraded`: the device is gone or a packet thread ended, and it is being started again. */
  readonly state: 'starting' | 'running' | 'degraded';
  readonly startedAt: string;
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
  readonly transport: string;
  /** Routes followed, of all tables and devices; and prefixes that our device forwards. */
  readonly routes: number;
  readonly entries: number;
  /** Of the forwarding table: grows by one with each change in force. */
  readonly revision: number;
  readonly lastChange: { readonly at: string; readonly what: string; readonly operations: number } | null;
  /** How often the kernel's tables were read as a whole, and how often because messages were lost. */
  readonly dumps: number;
  readonly overruns: number;
  readonly peers: readonly TunnelPeerStatus[];
  /** Of each direction why the fast path does not run, null where it does; its share is in the counters. */
  readonly fastPath: FastPathState;
  readonly counters: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
}

export interface TunnelSurroundings {
  readonly wanted: string;
  readonly device: KernelLink | undefined;
  readonly underlay: readonly KernelLink[];
  readonly disputed: readonly Prefix[];
  readonly looped: number;
}

/** Read anew for each status: these are other people's switches. */
export function tunnelWarnings(around: TunnelSurroundings): string[] {
  const { wanted, device, underlay, disputed, looped } = around;
  const name = device?.name ?? wanted;
  const warnings: string[] = [];
  if (device && device.name !== wanted)
    warnings.push(`${wanted} is called ${device.name} now; we serve it under either name`);
  if (device && !device.up) warnings.push(`${name} is down: ip link set ${name} up`);
  if (readSysctl(`net/ipv4/conf/${name}/ignore_routes_with_linkdown`) === '1')
    warnings.push(
      `ignore_routes_with_linkdown is 1 for ${name}: while nobody serves it, packets would leave ` +
        `unencapsulated by another route; sysctl -w net.ipv4.conf.${name}.ignore_routes_with_linkdown=0`,
    );
  for (const link of underlay)
    if (effectiveReversePathFilter(link.name) === 1)
      warnings.push(
        `rp_filter is strict on ${link.name}: where the other end sends plain what we wrap, it is lost; ` +
          `sysctl -w net.ipv4.conf.${link.name}.rp_filter=2`,
      );
  if (device && effectiveReversePathFilter(name) === 1)
    warnings.push(
      `rp_filter is strict on ${name}, where it should be 2; sysctl -w net.ipv4.conf.${name}.rp_filter=2`,
    );
  if (disputed.length > 0)
    warnings.push(
      `${disputed.length} prefixes have other next hops in another table, and main's are used: ` +
        disputed.slice(0, NAMED_PREFIXES).map(formatPrefix).join(', '),
    );
  if (looped > 0)
    warnings.push(
      `${looped} packets came back into ${name} after they were wrapped: a route without gateway, ` +
        'or a next hop that is itself routed into the device',
    );
  return warnings;
}

/** The kernel takes the greater of `all` and the interface's own. */
function effectiveReversePathFilter(link: string): number {
  return Math.max(
    ...['all', link].map((scope) => Number(readSysctl(`net/ipv4/conf/${scope}/rp_filter`) ?? 0)),
  );
}
