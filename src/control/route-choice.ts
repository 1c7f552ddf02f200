/**
 * What the routes of one prefix mean: where packets for it go, and who may send with a source in it.
 *
 * - Of the routes in one table the lowest metric wins; of several tables main, else the lowest number: which
 *   table a packet is routed by is up to rules that we do not follow, and the difference is reported.
 * - Sending: a next hop through our device is its gateway, or the inner destination where it has none. The
 *   weights of a multipath route become repetitions.
 * - Receiving: the next hop of the route back, by whichever device that goes and in whichever table. Nobody but
 *   itself sends for a host that is on a link of ours, and nobody at all for our own addresses and blackholes.
 */
import type { ForwardingEntry, SourceEntry } from '../fib/forwarding-config.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';
import { type KernelNextHop, type KernelRoute, MAIN_TABLE } from './kernel-tables.ts';

/** More repetitions than this would say a ratio of weights no better. */
const MOST_REPETITIONS = 64;

export interface RouteChoice {
  readonly entry: ForwardingEntry | null;
  readonly source: SourceEntry | null;
  /** Next hops that send and receive by our device, and those that may wrap where we do not. */
  readonly through: readonly Ipv4[];
  readonly beside: readonly Ipv4[];
  /** Tables that disagree about the next hops through our device. */
  readonly disputed: boolean;
}

const NOBODY: readonly Ipv4[] = [];
export const NO_CHOICE: RouteChoice = {
  entry: null,
  source: null,
  through: NOBODY,
  beside: NOBODY,
  disputed: false,
};

/** `routes` all have one prefix, in the kernel's order; `device` is null while there is none. */
export function chooseRoute(routes: readonly KernelRoute[], device: number | null): RouteChoice {
  const first = routes[0];
  if (!first) return NO_CHOICE;
  if (
    routes.length === 1 &&
    first.type === 'unicast' &&
    first.nextHops.length === 1 &&
    first.prefix.length > 0
  )
    return chooseOnly(first.prefix, first.nextHops[0]!, device);
  const { prefix } = first;
  const isOurs = (hop: KernelNextHop) => hop.interfaceIndex === device;
  const ways = effective(
    routes.filter((route) => route.type === 'unicast' && route.nextHops.some(isOurs)),
  ).map((route) => repeated(route.nextHops.filter(isOurs)));
  const nextHops = ways[0];
  const effectiveRoutes = effective(routes);
  const gateways = gatewaysOf(effectiveRoutes.flatMap((route) => route.nextHops));
  const through = nextHops === undefined || nextHops === 'inner-destination' ? [] : [...new Set(nextHops)];
  // What only a default route covers may come from anybody that we have a way to, its own gateways included.
  const isDefault = prefix.length === 0;
  return {
    entry: nextHops === undefined ? null : { prefix, nextHops },
    source: sourceOf(effectiveRoutes, gateways),
    through: isDefault ? [...new Set([...through, ...gateways])] : through,
    beside: isDefault ? [] : gateways.filter((gateway) => !through.includes(gateway)),
    disputed: new Set(ways.map(String)).size > 1,
  };
}

/** The same where there is nothing to choose: nearly always, and tens of thousands of times at the start. */
function chooseOnly(prefix: Prefix, hop: KernelNextHop, device: number | null): RouteChoice {
  const owners = hop.gateway === null ? NOBODY : [hop.gateway];
  const isOurs = hop.interfaceIndex === device;
  const nextHops = hop.gateway === null ? 'inner-destination' : owners;
  return {
    entry: isOurs ? { prefix, nextHops } : null,
    source: { prefix, owners },
    through: isOurs ? owners : NOBODY,
    beside: isOurs ? NOBODY : owners,
    disputed: false,
  };
}

/** Of each table the route that the kernel would use; the table whose word counts most first. */
function effective(routes: readonly KernelRoute[]): KernelRoute[] {
  if (routes.length < 2) return [...routes];
  const best = new Map<number, KernelRoute>();
  for (const route of routes) {
    const known = best.get(route.table);
    if (known === undefined || route.metric < known.metric) best.set(route.table, route);
  }
  const rank = (table: number) => (table === MAIN_TABLE ? -1 : table);
  return [...best.values()].sort((a, b) => rank(a.table) - rank(b.table));
}

function repeated(hops: readonly KernelNextHop[]): readonly Ipv4[] | 'inner-destination' {
  const withGateway = hops.filter((hop) => hop.gateway !== null);
  if (withGateway.length === 0) return 'inner-destination';
  if (withGateway.length === 1) return [withGateway[0]!.gateway!];
  const divisor = withGateway.reduce((sum, hop) => greatestCommonDivisor(sum, hop.weight), 0) || 1;
  const total = withGateway.reduce((sum, hop) => sum + hop.weight / divisor, 0);
  const scale = total > MOST_REPETITIONS ? MOST_REPETITIONS / total : 1;
  return withGateway.flatMap((hop) => {
    const times = Math.max(1, Math.round((hop.weight / divisor) * scale));
    return Array.from({ length: times }, () => hop.gateway!);
  });
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function gatewaysOf(hops: readonly KernelNextHop[]): Ipv4[] {
  const gateways = new Set<Ipv4>();
  for (const { gateway } of hops) if (gateway !== null) gateways.add(gateway);
  return [...gateways].sort((a, b) => a - b);
}

function sourceOf(effectiveRoutes: readonly KernelRoute[], gateways: readonly Ipv4[]): SourceEntry | null {
  const { prefix } = effectiveRoutes[0]!;
  if (effectiveRoutes.some((route) => route.type === 'local')) return { prefix, owners: 'local' };
  if (!effectiveRoutes.some((route) => route.type === 'unicast'))
    // A blackhole beneath our own workloads' routes. In a table of its own it is for some packets only.
    return prefix.length > 0 && effectiveRoutes[0]!.table === MAIN_TABLE ? { prefix, owners: 'local' } : null;
  return { prefix, owners: prefix.length === 0 ? 'any-peer' : gateways };
}
