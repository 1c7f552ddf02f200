/** A netlink socket that hears of links, addresses and IPv4 routes of the calling thread's network namespace. */
import { ENOBUFS, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { openSocket, SO_RCVBUF, SOCK_RAW, SOL_SOCKET, setIntegerOption } from './socket-options.ts';

const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOCKADDR_NL_BYTES = 12;
const RTMGRP_LINK = 0x1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
/** Twenty thousand routes set at once are about 2 MB of messages; what does not fit is told as `lost`. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export interface RouteSocket {
  /** One datagram of messages; null where there is none, 'lost' where the kernel had to drop some. */
  receive(): { readonly bytes: Uint8Array; readonly offset: number; readonly length: number } | 'lost' | null;
  close(): void;
}

export function openRouteSocket(): RouteSocket {
  const fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'a netlink socket');
  const address = new Uint8Array(SOCKADDR_NL_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE, true);
  if (systemCalls().bind(fd, address, SOCKADDR_NL_BYTES) < 0)
    throw systemCallFailed('binding a netlink socket');
  setIntegerOption(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES, 'setting SO_RCVBUF');
  const buffer = new MessageBuffer();
  return {
    receive() {
      const length = buffer.receive(fd, 'a netlink socket', [ENOBUFS]);
      if (length === -ENOBUFS) return 'lost';
      return length < 0 ? null : { bytes: buffer.arena.bytes, offset: buffer.data, length };
    },
    close: () => {
      systemCalls().close(fd);
    },
  };
}
