/**
 * What the kernel multicasts about links, addresses and IPv4 routes (rtnetlink(7)), as far as a follower needs it.
 * Netlink is in the host's byte order, little-endian on every machine that we run on; addresses in it are in
 * network order.
 */
import { readU32 } from './bytes.ts';

const NLMSG_HEADER_BYTES = 16;
const RTMSG_BYTES = 12;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const AF_INET = 2;
const RT_TABLE_MAIN = 254;
const RTN_BLACKHOLE = 6;
const RTNH_F_ONLINK = 4;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;

/** A route of the main IPv4 table came or went. */
export interface RouteMessage {
  readonly change: 'set' | 'deleted';
  readonly protocol: number;
  readonly blackhole: boolean;
  readonly onlink: boolean;
  readonly destination: number;
  readonly prefixLength: number;
  /** 0 where there is none. */
  readonly gateway: number;
  /** Index of the outgoing interface; 0 where there is none. */
  readonly interfaceIndex: number;
}

/** Calls `onMessage` per message in a datagram: with the route, or with null for a link's or an address' change. */
export function readNetlinkMessages(
  bytes: Uint8Array,
  offset: number,
  length: number,
  onMessage: (route: RouteMessage | null) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const end = offset + length;
  for (let at = offset; at + NLMSG_HEADER_BYTES <= end; ) {
    const size = view.getUint32(at, true);
    if (size < NLMSG_HEADER_BYTES || at + size > end) return;
    const type = view.getUint16(at + 4, true);
    if (type !== RTM_NEWROUTE && type !== RTM_DELROUTE) onMessage(null);
    else {
      const route = readRoute(bytes, view, at + NLMSG_HEADER_BYTES, at + size, type === RTM_NEWROUTE);
      if (route) onMessage(route);
    }
    at += (size + 3) & ~3;
  }
}

/** undefined for routes of other tables and families. */
function readRoute(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  end: number,
  isNew: boolean,
): RouteMessage | undefined {
  if (offset + RTMSG_BYTES > end) return undefined;
  if (bytes[offset] !== AF_INET || bytes[offset + 4] !== RT_TABLE_MAIN) return undefined;
  let [destination, gateway, interfaceIndex] = [0, 0, 0];
  for (let at = offset + RTMSG_BYTES; at + 4 <= end; ) {
    const size = view.getUint16(at, true);
    const type = view.getUint16(at + 2, true);
    if (size < 4 || at + size > end) break;
    if (size >= 8 && type === RTA_DST) destination = readU32(bytes, at + 4);
    else if (size >= 8 && type === RTA_GATEWAY) gateway = readU32(bytes, at + 4);
    else if (size >= 8 && type === RTA_OIF) interfaceIndex = view.getUint32(at + 4, true);
    at += (size + 3) & ~3;
  }
  return {
    change: isNew ? 'set' : 'deleted',
    protocol: bytes[offset + 5]!,
    blackhole: bytes[offset + 7] === RTN_BLACKHOLE,
    onlink: (view.getUint32(offset + 8, true) & RTNH_F_ONLINK) !== 0,
    destination,
    prefixLength: bytes[offset + 1]!,
    gateway,
    interfaceIndex,
  };
}
