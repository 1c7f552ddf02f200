/**
 * Hears from the kernel what changes in its tables. The socket is read every POLL_MS: Node cannot wait for a
 * descriptor of this kind, a thread that waits would cost more than ten empty reads a second, and a child
 * process that does (`ip monitor`) would outlive a crash.
 */
import { formatRoute, type HostEvent, type HostRoute, ROUTE_PROTOCOL } from '../control/ports.ts';
import { openRouteSocket } from '../io/route-socket.ts';
import { ipv4FromNumber } from '../ip/ipv4.ts';
import { formatPrefix, prefixOf } from '../ip/prefix.ts';
import { type RouteMessage, readNetlinkMessages } from '../wire/rtnetlink.ts';

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
        readNetlinkMessages(message.bytes, message.offset, message.length, (route) =>
          onEvent(eventOf(route, nameOf)),
        );
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

function eventOf(route: RouteMessage | null, nameOf: (interfaceIndex: number) => string): HostEvent {
  if (!route || route.protocol !== ROUTE_PROTOCOL) return { type: 'facts' };
  const own = hostRoute(route, nameOf(route.interfaceIndex));
  return {
    type: 'own-route',
    change: route.change,
    prefix: formatPrefix(own.prefix),
    text: formatRoute(own),
  };
}

function hostRoute(route: RouteMessage, device: string): HostRoute {
  const prefix = prefixOf(route.destination, route.prefixLength);
  if (route.blackhole) return { type: 'blackhole', prefix };
  if (!route.gateway) return { type: 'workload', prefix, device };
  const type = route.onlink ? 'encapsulated' : 'plain';
  return { type, prefix, via: ipv4FromNumber(route.gateway), device };
}
