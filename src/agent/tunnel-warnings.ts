/** What on the host would spoil the work of `tortie tunnel run`, each with the line that mends it. */
import type { KernelLink } from '../control/kernel-tables.ts';
import { readSysctl } from '../host/sysctl.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix } from '../ip/prefix.ts';

/** Of the prefixes that a warning is about so many are named. */
const NAMED_PREFIXES = 3;

export interface TunnelSurroundings {
  readonly wanted: string;
  /** Whether everything that the kernel had said is in force. */
  readonly caughtUp: boolean;
  readonly device: KernelLink | undefined;
  readonly underlay: readonly KernelLink[];
  readonly disputed: readonly Prefix[];
  /** Prefixes that no transport of ours can send to. */
  readonly unsendable: readonly Prefix[];
  /** Next hops that only a guard route leads to. */
  readonly cutOff: readonly Ipv4[];
  readonly looped: number;
}

/** Read anew for each status: these are other people's switches. */
export function tunnelWarnings(around: TunnelSurroundings): string[] {
  const { wanted, caughtUp, device, underlay, disputed, unsendable, cutOff, looped } = around;
  const name = device?.name ?? wanted;
  const warnings: string[] = [];
  if (!caughtUp) warnings.push('the last changes of routes, links or addresses are not in force yet');
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
      `${disputed.length} prefixes have other next hops in another table, and main's are used: ${some(disputed)}`,
    );
  if (unsendable.length > 0)
    warnings.push(
      `${unsendable.length} prefixes have a route without gateway, and packets to them are dropped: who takes UDP ` +
        `is said of gateways only; give them one, or use --transport auto: ${some(unsendable)}`,
    );
  if (cutOff.length > 0)
    warnings.push(
      `${cutOff.length} next hops are inside --guard, and nothing but the default route leads there, so what is ` +
        `wrapped for them does not leave: ${cutOff.slice(0, NAMED_PREFIXES).map(formatIpv4).join(', ')}; ` +
        'guard the pools of workloads only',
    );
  if (looped > 0)
    warnings.push(
      `${looped} packets came back into ${name} after they were wrapped: a route without gateway, ` +
        'or a next hop that is itself routed into the device',
    );
  return warnings;
}

function some(prefixes: readonly Prefix[]): string {
  const named = prefixes.slice(0, NAMED_PREFIXES).map(formatPrefix).join(', ');
  return prefixes.length > NAMED_PREFIXES ? `${named} …` : named;
}

/** The kernel takes the greater of `all` and the interface's own. */
function effectiveReversePathFilter(link: string): number {
  return Math.max(
    ...['all', link].map((scope) => Number(readSysctl(`net/ipv4/conf/${scope}/rp_filter`) ?? 0)),
  );
}
