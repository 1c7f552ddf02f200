/**
 * Hears from the kernel what changes in its tables. The socket is read every POLL_MS: Node cannot wait for a
 * descriptor of this kind, a thread that waits would cost more than ten empty reads a second, and a child
 * process that does (`ip monitor`) would outlive a crash.
 */
import { formatRoute, type HostEvent, type HostRoute, ROUTE_PROTOCOL } from '../control/ports.ts';
import { openRouteSocket } from '../io/route-socket.ts';
import { formatPrefix, prefixOf } from '../ip/prefix.ts';
import {
  decodeNetlink,
  type NetlinkMessage,
  ROUTE_BLACKHOLE,
  type RouteMessage,
  RT_TABLE_MAIN,
} from '../wire/rtnetlink.ts';

const POLL_MS = 100;

export function followRoutes(
  onEvent: (event: HostEvent) => void,
  nameOf: (interfaceIndex: number) => string,
  signal: AbortSignal,
): void {
  const socket = openRouteSocket();
  const timer = setInterval(() => {
    for (let message = socket.receive(); message !== null; message = socket.receive()) {
      if (message === 'lost') onEvent({ type: 'facts' });
      else
        for (const change of decodeNetlink(message.bytes, message.offset, message.length)) {
          // Other tables are other people's.
          if (change.kind !== 'route' || change.table === RT_TABLE_MAIN) onEvent(eventOf(change, nameOf));
        }
    }
  }, POLL_MS);
  signal.addEventListener(
    'abort',
    () => {
      clearInterval(timer);
      socket.close();
    },
    { once: true },
  );
}

function eventOf(change: NetlinkMessage, nameOf: (interfaceIndex: number) => string): HostEvent {
  if (change.kind !== 'route' || change.protocol !== ROUTE_PROTOCOL) return { type: 'facts' };
  const own = hostRoute(change, nameOf);
  return {
    type: 'own-route',
    change: change.change,
    prefix: formatPrefix(own.prefix),
    text: formatRoute(own),
  };
}

function hostRoute(route: RouteMessage, nameOf: (interfaceIndex: number) => string): HostRoute {
  const prefix = prefixOf(route.destination, route.prefixLength);
  if (route.type === ROUTE_BLACKHOLE) return { type: 'blackhole', prefix };
  const hop = route.nextHops[0];
  const device = nameOf(hop?.interfaceIndex ?? 0);
  if (!hop || hop.gateway === null) return { type: 'workload', prefix, device };
  return { type: hop.onlink ? 'encapsulated' : 'plain', prefix, via: hop.gateway, device };
}
