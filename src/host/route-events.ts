/**
 * Hears from the kernel what changes in its tables. The socket is read every POLL_MS: Node cannot wait for a
 * descriptor of this kind, a thread that waits would cost more than ten empty reads a second, and a child
 * process that does (`ip monitor`) would outlive a crash.
 */
import { type HostEvent, ROUTE_PROTOCOL } from '../control/ports.ts';
import { openRouteSocket } from '../io/route-socket.ts';
import { decodeNetlink, type NetlinkMessage, RT_TABLE_MAIN } from '../wire/rtnetlink.ts';
import { hostRouteOf } from './kernel-routes.ts';

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
  return { type: 'own-route', change: change.change, route: hostRouteOf(change, nameOf) };
}
