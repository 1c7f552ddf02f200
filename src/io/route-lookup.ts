/** Asks the kernel how its route leads to an address, in the namespace where this was opened. */
import type { Ipv4 } from '../ip/ipv4.ts';
import { decodeNetlink, encodeRouteLookup, ROUTE_UNICAST } from '../wire/rtnetlink.ts';
import { systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { AF_NETLINK, NETLINK_ROUTE } from './route-socket.ts';
import { openSocket, SOCK_RAW } from './socket-options.ts';

const NO_WAY = { device: 0, mtu: 0, hop: null, source: null };

export interface RouteLookup {
  /**
   * `device`: its number, 0 where there is no route to another host. `mtu`: 0 where the route sets none. `hop`: whose
   * neighbour entry has the MAC, the gateway or, on the link, the destination; null where that is no IPv4 address.
   * `source`: what the kernel would give a packet that has none.
   */
  wayTo(
    destination: Ipv4,
    source?: Ipv4,
  ): {
    readonly device: number;
    readonly mtu: number;
    readonly hop: Ipv4 | null;
    readonly source: Ipv4 | null;
  };
  close(): void;
}

export function openRouteLookup(): RouteLookup {
  const fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'a netlink socket');
  const buffer = new MessageBuffer();
  let sequence = 0;
  return {
    wayTo(destination, source) {
      const question = encodeRouteLookup(destination, ++sequence, source);
      if (systemCalls().sendto(fd, question, question.length, 0, null, 0) < 0)
        throw systemCallFailed('asking for a route');
      // The kernel answers within the call that asks.
      const length = buffer.receive(fd, 'a netlink socket');
      if (length < 0) return NO_WAY;
      for (const message of decodeNetlink(buffer.arena.bytes, buffer.data, length))
        if (message.kind === 'route' && message.type === ROUTE_UNICAST)
          return {
            device: message.nextHops[0]?.interfaceIndex ?? 0,
            mtu: message.mtu,
            hop: message.foreignGateway ? null : (message.nextHops[0]?.gateway ?? destination),
            source: source ?? message.preferredSource,
          };
      return NO_WAY;
    },
    close: () => {
      systemCalls().close(fd);
    },
  };
}
