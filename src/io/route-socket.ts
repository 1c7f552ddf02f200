/** Netlink sockets of the calling thread's network namespace: links, addresses and IPv4 routes; that the firewall has changed. */
import { FailedError } from '../base/errors.ts';
import { decodeNetlink, encodeDump, type NetlinkMessage } from '../wire/rtnetlink.ts';
import { ENOBUFS, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { openSocket, SOCK_RAW, setBufferSizes } from './socket-options.ts';

export const AF_NETLINK = 16;
export const NETLINK_ROUTE = 0;
export const SOCKADDR_NL_BYTES = 12;
const RTMGRP_LINK = 0x1;
const RTMGRP_NEIGH = 0x4;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
const RTMGRP_IPV4_RULE = 0x80;
const ROUTE_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE;
const NETLINK_NETFILTER = 12;
/** Bit of the group that hears of nftables (7). */
const NFNLGRP_NFTABLES_BIT = 0x40;
const NETLINK_XFRM = 6;
/** Bit of the group that hears of policies (4). */
const XFRMNLGRP_POLICY_BIT = 0x8;
/** Twenty thousand routes set at once are about 2 MB of messages; what does not fit is told as `lost`. */
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;

export interface RouteSocket {
  readonly fd: number;
  /** One datagram of messages; null where there is none, 'lost' where the kernel had to drop some. */
  receive(): { readonly bytes: Uint8Array; readonly offset: number; readonly length: number } | 'lost' | null;
  close(): void;
}

/** Links, addresses and routes. */
export function openRouteSocket(): RouteSocket {
  return openEventSocket(NETLINK_ROUTE, ROUTE_GROUPS);
}

/** The same, and rules of policy routing. */
export function openRoutingSocket(): RouteSocket {
  return openEventSocket(NETLINK_ROUTE, ROUTE_GROUPS | RTMGRP_IPV4_RULE);
}

/** The same, and neighbours. */
export function openNeighbourSocket(): RouteSocket {
  return openEventSocket(NETLINK_ROUTE, ROUTE_GROUPS | RTMGRP_IPV4_RULE | RTMGRP_NEIGH);
}

/** Its messages are not decoded here: that there is one says that the rules have changed. */
export function openFirewallSocket(): RouteSocket {
  return openEventSocket(NETLINK_NETFILTER, NFNLGRP_NFTABLES_BIT);
}

/** Rules of policy routing alone: that there is a message says that they have changed. */
export function openRuleSocket(): RouteSocket {
  return openEventSocket(NETLINK_ROUTE, RTMGRP_IPV4_RULE);
}

/** Says that IPsec policies have changed; null where the kernel does not tell, for one because it has no IPsec. */
export function openIpsecSocket(): RouteSocket | null {
  try {
    return openEventSocket(NETLINK_XFRM, XFRMNLGRP_POLICY_BIT);
  } catch {
    return null;
  }
}

function openEventSocket(protocol: number, groups: number): RouteSocket {
  const fd = openSocket(AF_NETLINK, SOCK_RAW, protocol, 'a netlink socket');
  const address = new Uint8Array(SOCKADDR_NL_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups, true);
  if (systemCalls().bind(fd, address, SOCKADDR_NL_BYTES) < 0)
    throw systemCallFailed('binding a netlink socket');
  setBufferSizes(fd, RECEIVE_BUFFER_BYTES);
  const buffer = new MessageBuffer();
  return {
    fd,
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

/**
 * Hands over a whole table, message by message; whether nothing changed meanwhile. The kernel writes each part of
 * the answer while we ask for it, so this never waits: 20,000 routes take some 100 ms of this thread.
 */
export function dumpTable(
  what: Parameters<typeof encodeDump>[0],
  onMessage: (message: NetlinkMessage) => void,
): boolean {
  const calls = systemCalls();
  const fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'a netlink socket');
  try {
    const request = encodeDump(what, 1);
    const kernel = new Uint8Array(SOCKADDR_NL_BYTES);
    new DataView(kernel.buffer).setUint16(0, AF_NETLINK, true);
    if (calls.sendto(fd, request, request.length, 0, kernel, kernel.length) < 0)
      throw systemCallFailed(`asking for the kernel's ${what}`);
    const buffer = new MessageBuffer();
    let whole = true;
    for (;;) {
      const length = buffer.receive(fd, 'a netlink socket');
      if (length < 0) throw new FailedError('ERR_NETLINK', `the kernel's list of ${what} ends in the middle`);
      for (const message of decodeNetlink(buffer.arena.bytes, buffer.data, length)) {
        if (message.kind === 'error')
          throw new FailedError(
            'ERR_NETLINK',
            `the kernel does not list its ${what}: errno ${message.errno}`,
          );
        if (message.kind === 'done') return whole && !message.interrupted;
        if (message.kind === 'overrun') whole = false;
        onMessage(message);
      }
    }
  } finally {
    calls.close(fd);
  }
}
