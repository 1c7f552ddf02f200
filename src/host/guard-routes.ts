/**
 * Guard routes: `unreachable CIDR` beneath all others, so that what no other route takes does not leave by the default
 * one. They look as the kernel's own last resort does in IPv6 (protocol kernel, the highest metric): routing daemons
 * that learn the routes of others leave those of the kernel alone. BIRD with Calico's configuration would tell all its
 * neighbours of a guard with any other protocol (tried with BIRD 1.6.8), and networkd would take it away.
 */
import { sendRouteRequests } from '../io/route-requests.ts';
import type { Prefix } from '../ip/prefix.ts';
import { encodeRoute, mainRoute, type RouteMessage, RT_TABLE_MAIN } from '../wire/rtnetlink.ts';

const ROUTE_UNREACHABLE = 7;
const PROTOCOL_KERNEL = 2;
const LAST_METRIC = 0xffff_ffff;

/** As `ip route` would be told. */
export const GUARD_ROUTE_WORDS = `unreachable … proto kernel metric ${LAST_METRIC}`;

export function isGuardRoute(route: RouteMessage): boolean {
  return (
    route.type === ROUTE_UNREACHABLE &&
    route.protocol === PROTOCOL_KERNEL &&
    route.priority === LAST_METRIC &&
    route.table === RT_TABLE_MAIN
  );
}

/** Harmless where they are there. Gives by position the errno of each that the kernel refused. */
export function setGuardRoutes(prefixes: readonly Prefix[]): ReadonlyMap<number, number> {
  return tellKernel('set', prefixes);
}

export function deleteGuardRoutes(prefixes: readonly Prefix[]): ReadonlyMap<number, number> {
  return tellKernel('deleted', prefixes);
}

function tellKernel(
  change: RouteMessage['change'],
  prefixes: readonly Prefix[],
): ReadonlyMap<number, number> {
  const requests = prefixes.map((prefix, sequence) =>
    encodeRoute(
      mainRoute({
        change,
        destination: prefix.address,
        prefixLength: prefix.length,
        protocol: PROTOCOL_KERNEL,
        type: ROUTE_UNREACHABLE,
        priority: LAST_METRIC,
      }),
      sequence,
      'errors only',
    ),
  );
  return sendRouteRequests(requests);
}
