/**
 * Hears from the kernel what changes in its tables: at once, and then what comes within REST_MS together. (A child
 * process that listens, `ip monitor`, would outlive a crash.)
 */
import { type HostEvent, ROUTE_PROTOCOL } from '../control/ports.ts';
import { watchReadable } from '../io/readiness.ts';
import { openRouteSocket } from '../io/route-socket.ts';
import { decodeNetlink, type NetlinkMessage, RT_TABLE_MAIN } from '../wire/rtnetlink.ts';
import { hostRouteOf } from './kernel-routes.ts';

const REST_MS = 100;

export function followRoutes(
  onEvent: (event: HostEvent) => void,
  nameOf: (interfaceIndex: number) => string,
  signal: AbortSignal,
): void {
  const socket = openRouteSocket();
  const read = () => {
    for (let message = socket.receive(); message !== null; message = socket.receive()) {
      if (message === 'lost') onEvent({ type: 'facts' });
      else
        for (const change of decodeNetlink(message.bytes, message.offset, message.length)) {
          // Other tables are other people's.
          if (change.kind !== 'route' || change.table === RT_TABLE_MAIN) onEvent(eventOf(change, nameOf));
        }
    }
  };
  const watch = watchReadable(socket.fd, read, REST_MS);
  signal.addEventListener('abort', () => void watch.stop().then(() => socket.close()), { once: true });
}

function eventOf(change: NetlinkMessage, nameOf: (interfaceIndex: number) => string): HostEvent {
  if (change.kind !== 'route' || change.protocol !== ROUTE_PROTOCOL) return { type: 'facts' };
  return { type: 'own-route', change: change.change, route: hostRouteOf(change, nameOf) };
}
