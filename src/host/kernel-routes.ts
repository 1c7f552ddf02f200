/** Routes between the words of control/ports.ts and the kernel's: written in batches, read as whole tables. */
import {
  type FailedStep,
  type ForeignRoute,
  type HostRoute,
  type PlanStep,
  ROUTE_PROTOCOL,
} from '../control/ports.ts';
import { errnoName } from '../io/errno.ts';
import { interfaceIndex } from '../io/netns.ts';
import { sendRouteRequests } from '../io/route-requests.ts';
import { dumpTable } from '../io/route-socket.ts';
import { formatPrefix, type Prefix, prefixOf } from '../ip/prefix.ts';
import {
  encodeRoute,
  mainRoute,
  ROUTE_BLACKHOLE,
  ROUTE_UNICAST,
  type RouteMessage,
  type RouteNextHop,
  RT_TABLE_MAIN,
  SCOPE_LINK,
  SCOPE_NOWHERE,
  SCOPE_UNIVERSE,
} from '../wire/rtnetlink.ts';

export type RouteStep = Extract<PlanStep, { op: 'set-route' | 'delete-route' }>;

const ESRCH = 3;
const TRIES = 5;
/** After every address. */
const LAST = 2 ** 32;

/** Takes the steps in an order of its own; gives those that the kernel refused. */
export function applyRoutes(steps: readonly RouteStep[]): FailedStep[] {
  const failed: FailedStep[] = [];
  const requests: Uint8Array[] = [];
  const indexOf = interfaceIndices();
  const ordered = byNextHop(steps);
  for (const [sequence, step] of ordered.entries()) {
    const device = step.op === 'set-route' && 'device' in step.route ? step.route.device : undefined;
    const index = device === undefined ? 0 : indexOf(device);
    if (index === undefined) failed.push({ step, reason: `there is no interface ${device}` });
    else requests.push(encodeRoute(messageOf(step, index), sequence, 'errors only'));
  }
  for (const [sequence, errno] of sendRouteRequests(requests)) {
    const step = ordered[sequence];
    // What went away meanwhile need not be deleted.
    if (step && !(step.op === 'delete-route' && errno === ESRCH))
      failed.push({ step, reason: `the kernel says ${errnoName(errno)}` });
  }
  return failed;
}

/**
 * Routes by one next hop together, deletions last. The kernel has one record (fib_info) for all routes by a next hop; it
 * looks for it among all those of the device, newest first, and puts a new one in front. 20,000 routes by 5,000 next hops
 * take 1.9 s in the order of their prefixes, and 0.6 s in this one.
 */
export function byNextHop(steps: readonly RouteStep[]): readonly RouteStep[] {
  return [...steps].sort((a, b) => rankOf(a) - rankOf(b));
}

function rankOf(step: RouteStep): number {
  if (step.op === 'delete-route') return LAST;
  return 'via' in step.route ? step.route.via : 0;
}

/** Each name is looked up once. */
function interfaceIndices(): (name: string) => number | undefined {
  const known = new Map<string, number | undefined>();
  return (name) => {
    if (!known.has(name)) known.set(name, lookUp(name));
    return known.get(name);
  };
}

function lookUp(name: string): number | undefined {
  try {
    return interfaceIndex(name);
  } catch {
    return undefined;
  }
}

function messageOf(step: RouteStep, interfaceIndex: number): Omit<RouteMessage, 'kind'> {
  if (step.op === 'delete-route')
    // Whatever its type and scope; the protocol number makes sure that it is ours.
    return message('deleted', step.prefix, 0, SCOPE_NOWHERE, []);
  const { route } = step;
  if (route.type === 'blackhole') return message('set', route.prefix, ROUTE_BLACKHOLE, SCOPE_UNIVERSE, []);
  const hop: RouteNextHop = {
    gateway: route.type === 'workload' ? null : route.via,
    interfaceIndex,
    onlink: route.type === 'encapsulated',
    dead: false,
    weight: 1,
  };
  const scope = route.type === 'workload' ? SCOPE_LINK : SCOPE_UNIVERSE;
  return message('set', route.prefix, ROUTE_UNICAST, scope, [hop]);
}

function message(
  change: RouteMessage['change'],
  prefix: Prefix,
  type: number,
  scope: number,
  nextHops: readonly RouteNextHop[],
): Omit<RouteMessage, 'kind'> {
  const [destination, prefixLength] = [prefix.address, prefix.length];
  return mainRoute({ change, destination, prefixLength, protocol: ROUTE_PROTOCOL, type, scope, nextHops });
}

/** A route of ours as the kernel tells it. */
export function hostRouteOf(route: RouteMessage, nameOf: (interfaceIndex: number) => string): HostRoute {
  const prefix = prefixOf(route.destination, route.prefixLength);
  if (route.type === ROUTE_BLACKHOLE) return { type: 'blackhole', prefix };
  const hop = route.nextHops[0];
  const device = nameOf(hop?.interfaceIndex ?? 0);
  if (!hop || hop.gateway === null) return { type: 'workload', prefix, device };
  return { type: hop.onlink ? 'encapsulated' : 'plain', prefix, via: hop.gateway, device };
}

/** Interface index -> name. */
export function linkNames(): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  dumpTable('links', (message) => {
    if (message.kind === 'link') names.set(message.index, message.name);
  });
  return names;
}

/** Our routes in the main table as it is, by formatPrefix. */
export function readOwnRoutes(nameOf: (interfaceIndex: number) => string): Map<string, HostRoute> {
  const own = new Map<string, HostRoute>();
  readMainTable(
    () => own.clear(),
    (message) => {
      if (message.protocol !== ROUTE_PROTOCOL) return;
      const route = hostRouteOf(message, nameOf);
      own.set(formatPrefix(route.prefix), route);
    },
  );
  return own;
}

/** The others'. */
export function readForeignRoutes(nameOf: (interfaceIndex: number) => string): readonly ForeignRoute[] {
  const foreign: ForeignRoute[] = [];
  readMainTable(
    () => {
      foreign.length = 0;
    },
    (message) => {
      if (message.protocol === ROUTE_PROTOCOL) return;
      const hop = message.nextHops[0];
      foreign.push({
        prefix: prefixOf(message.destination, message.prefixLength),
        via: hop?.gateway ?? null,
        device: hop ? nameOf(hop.interfaceIndex) : null,
        metric: message.priority,
      });
    },
  );
  return foreign;
}

/** A dump that a change cut in two may lack a route; after some tries what is missing comes with the next look. */
function readMainTable(begin: () => void, onRoute: (message: RouteMessage) => void): void {
  for (let tries = 1; ; tries++) {
    begin();
    const whole = dumpTable('routes', (message) => {
      if (message.kind === 'route' && message.table === RT_TABLE_MAIN && !message.cached) onRoute(message);
    });
    if (whole || tries === TRIES) return;
  }
}
