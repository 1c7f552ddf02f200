/**
 * rtnetlink(7): what the kernel says about links, IPv4 addresses, routes and neighbours, and the requests for it.
 * Headers are in the host's byte order, little-endian on every machine that we run on; addresses within are in
 * network order. Decoding is total: a message that is cut off ends the datagram, an attribute that is cut off
 * its message; what we do not know is handed on as `other`, or left out of the message that it belongs to.
 */
// size: one family of messages that share their requests, attributes and types.
import type { Ipv4 } from '../ip/ipv4.ts';
import { readU32, writeU32 } from './bytes.ts';
import { formatMac, MAC_BYTES } from './ethernet.ts';

const MESSAGE_HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
const ALIGNMENT = 4;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP = 0x300;
const NLM_F_REPLACE = 0x100;
const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
/** The dump was interrupted by a change and must be asked for again. */
const NLM_F_DUMP_INTR = 0x10;

const AF_UNSPEC = 0;
const AF_INET = 2;
const IFINFO_BYTES = 16;
const IFADDR_BYTES = 8;
const RTMSG_BYTES = 12;
const NDMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
/** A gateway of another family: IPv4 routed over IPv6 next hops (RFC 5549). */
const RTA_VIA = 18;
const RTAX_MTU = 2;
const RTM_F_CLONED = 0x200;
const NDA_DST = 1;
const NDA_LLADDR = 2;
/** NUD_REACHABLE, STALE, DELAY, PROBE and PERMANENT: states in which the kernel would send to the address it has. */
const NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/** Attribute types carry two flags on top (nested, network order). */
const ATTRIBUTE_TYPE_MASK = 0x3fff;

export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
export const ROUTE_UNICAST = 1;
export const ROUTE_LOCAL = 2;
export const ROUTE_BLACKHOLE = 6;
export const SCOPE_UNIVERSE = 0;
export const SCOPE_LINK = 253;
/** In a deletion: of whatever scope. */
export const SCOPE_NOWHERE = 255;

const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const RTNH_F_DEAD = 1;
const RTNH_F_ONLINK = 4;
const RTNH_F_LINKDOWN = 16;

export type Change = 'set' | 'deleted';

export interface LinkMessage {
  readonly kind: 'link';
  readonly change: Change;
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  /** Up, and its carrier there. */
  readonly running: boolean;
  readonly mtu: number;
  /** Index of the bridge or bond that it belongs to; 0 where there is none. */
  readonly master: number;
  /** `ipip`, `tun`, `veth` …; empty for hardware. */
  readonly type: string;
  /** Empty where it has none. */
  readonly mac: string;
}

export interface AddressMessage {
  readonly kind: 'address';
  readonly change: Change;
  readonly interfaceIndex: number;
  readonly address: Ipv4;
  readonly prefixLength: number;
  readonly scope: number;
}

export interface RouteNextHop {
  /** null: the destination is on the link. */
  readonly gateway: Ipv4 | null;
  /** 0 where the route names no device. */
  readonly interfaceIndex: number;
  readonly onlink: boolean;
  /** Its link is down or has no carrier: the kernel may pass it over. */
  readonly dead: boolean;
  readonly weight: number;
}

export interface RouteMessage {
  readonly kind: 'route';
  readonly change: Change;
  readonly destination: Ipv4;
  readonly prefixLength: number;
  readonly table: number;
  readonly protocol: number;
  readonly scope: number;
  /** ROUTE_UNICAST, ROUTE_BLACKHOLE … */
  readonly type: number;
  /** 0 is the most preferred, and what routes without a metric have. */
  readonly priority: number;
  readonly preferredSource: Ipv4 | null;
  /** 0 where the route does not set one. */
  readonly mtu: number;
  /** One, or the paths of a multipath route; none for a blackhole. */
  readonly nextHops: readonly RouteNextHop[];
  /** News of a route: it stands in the place of the first with its prefix, table and metric, or after all of them. */
  readonly position?: 'replaced' | 'appended';
  /** No route of a table, but the kernel's memory of one destination (its path MTU, a redirect), or an answer to who asked for a way. */
  readonly cached?: true;
  /** Its gateway is no IPv4 address. */
  readonly foreignGateway?: true;
}

export interface NeighbourMessage {
  readonly kind: 'neighbour';
  readonly change: Change;
  readonly interfaceIndex: number;
  readonly address: Ipv4;
  /** Its Ethernet address; null where the kernel knows none that it would send to. */
  readonly mac: string | null;
}

export type NetlinkMessage =
  | LinkMessage
  | AddressMessage
  | RouteMessage
  | NeighbourMessage
  /** End of a dump. `interrupted`: the tables changed meanwhile, ask again. */
  | { readonly kind: 'done'; readonly sequence: number; readonly interrupted: boolean }
  /** Answer to a request: 0 is an acknowledgement, else the errno, positive. */
  | { readonly kind: 'error'; readonly sequence: number; readonly errno: number }
  /** Messages were lost: ask for everything again. */
  | { readonly kind: 'overrun' }
  | { readonly kind: 'other'; readonly type: number };

/** A range of bytes, and how to read numbers in it. */
interface Range {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

function aligned(length: number): number {
  return (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

/** The messages of one datagram of `length` bytes at `offset`. */
export function decodeNetlink(
  bytes: Uint8Array,
  offset = 0,
  length = bytes.length - offset,
): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = offset + length;
  const messages: NetlinkMessage[] = [];
  for (let at = offset; at + MESSAGE_HEADER_BYTES <= end; ) {
    const size = view.getUint32(at, true);
    if (size < MESSAGE_HEADER_BYTES || at + size > end) break;
    messages.push(decodeMessage({ view, bytes, start: at, end: at + size }));
    at += aligned(size);
  }
  return messages;
}

function decodeMessage(range: Range): NetlinkMessage {
  const { view, bytes, start, end } = range;
  const type = view.getUint16(start + 4, true);
  const sequence = view.getUint32(start + 8, true);
  const body: Range = { view, bytes, start: start + MESSAGE_HEADER_BYTES, end };
  switch (type) {
    case NLMSG_DONE:
      return {
        kind: 'done',
        sequence,
        interrupted: (view.getUint16(start + 6, true) & NLM_F_DUMP_INTR) !== 0,
      };
    case NLMSG_ERROR:
      return body.start + 4 > end
        ? { kind: 'other', type }
        : { kind: 'error', sequence, errno: Math.abs(view.getInt32(body.start, true)) };
    case NLMSG_OVERRUN:
      return { kind: 'overrun' };
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return decodeLink(body, type === RTM_NEWLINK ? 'set' : 'deleted') ?? { kind: 'other', type };
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return decodeAddress(body, type === RTM_NEWADDR ? 'set' : 'deleted') ?? { kind: 'other', type };
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return (
        decodeRoute(body, type === RTM_NEWROUTE ? 'set' : 'deleted', view.getUint16(start + 6, true)) ?? {
          kind: 'other',
          type,
        }
      );
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return decodeNeighbour(body, type === RTM_NEWNEIGH ? 'set' : 'deleted') ?? { kind: 'other', type };
    default:
      return { kind: 'other', type };
  }
}

/** Attribute type -> its value; of repeated ones the last. */
function attributesOf({ view, bytes, end }: Range, start: number): Map<number, Range> {
  const attributes = new Map<number, Range>();
  for (let at = start; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const size = view.getUint16(at, true);
    if (size < ATTRIBUTE_HEADER_BYTES || at + size > end) break;
    const type = view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK;
    attributes.set(type, { view, bytes, start: at + ATTRIBUTE_HEADER_BYTES, end: at + size });
    at += aligned(size);
  }
  return attributes;
}

/** Host order; 0 where the attribute is missing or too short. */
function integer(attribute: Range | undefined): number {
  if (attribute === undefined || attribute.start + 4 > attribute.end) return 0;
  return attribute.view.getUint32(attribute.start, true);
}

/** Network order; null where the attribute is missing or too short. */
function address(attribute: Range | undefined): Ipv4 | null {
  if (attribute === undefined || attribute.start + 4 > attribute.end) return null;
  return readU32(attribute.bytes, attribute.start) as Ipv4;
}

/** Up to the terminating zero. */
function text(attribute: Range | undefined): string {
  if (attribute === undefined) return '';
  const value = attribute.bytes.slice(attribute.start, attribute.end);
  const zero = value.indexOf(0);
  return new TextDecoder().decode(zero < 0 ? value : value.subarray(0, zero));
}

function decodeLink(body: Range, change: Change): LinkMessage | undefined {
  const { view, bytes, start, end } = body;
  // A bridge tells of its ports by the same messages (AF_BRIDGE): one that leaves it is not deleted.
  if (start + IFINFO_BYTES > end || bytes[start] !== AF_UNSPEC) return undefined;
  const flags = view.getUint32(start + 8, true);
  const attributes = attributesOf(body, start + IFINFO_BYTES);
  const info = attributes.get(IFLA_LINKINFO);
  const mac = attributes.get(IFLA_ADDRESS);
  return {
    kind: 'link',
    change,
    index: view.getInt32(start + 4, true),
    name: text(attributes.get(IFLA_IFNAME)),
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    mtu: integer(attributes.get(IFLA_MTU)),
    master: integer(attributes.get(IFLA_MASTER)),
    type: info === undefined ? '' : text(attributesOf(info, info.start).get(IFLA_INFO_KIND)),
    mac: mac !== undefined && mac.end - mac.start === MAC_BYTES ? formatMac(mac.bytes, mac.start) : '',
  };
}

function decodeAddress(body: Range, change: Change): AddressMessage | undefined {
  const { view, bytes, start, end } = body;
  if (start + IFADDR_BYTES > end || bytes[start] !== AF_INET) return undefined;
  const attributes = attributesOf(body, start + IFADDR_BYTES);
  // IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link and the same elsewhere.
  const own = address(attributes.get(IFA_LOCAL)) ?? address(attributes.get(IFA_ADDRESS));
  if (own === null) return undefined;
  return {
    kind: 'address',
    change,
    interfaceIndex: view.getUint32(start + 4, true),
    address: own,
    prefixLength: bytes[start + 1]!,
    scope: bytes[start + 3]!,
  };
}

/** Without a table of its attributes: there are tens of thousands of routes. */
function decodeRoute(body: Range, change: Change, messageFlags: number): RouteMessage | undefined {
  const { view, bytes, start, end } = body;
  if (start + RTMSG_BYTES > end || bytes[start] !== AF_INET) return undefined;
  let destination = 0 as Ipv4;
  let gateway: Ipv4 | null = null;
  let preferredSource: Ipv4 | null = null;
  let [table, priority, mtu, interfaceIndex] = [0, 0, 0, 0];
  let multipath: Range | undefined;
  let foreignGateway: true | undefined;
  for (let at = start + RTMSG_BYTES; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const size = view.getUint16(at, true);
    if (size < ATTRIBUTE_HEADER_BYTES || at + size > end) break;
    const value = at + ATTRIBUTE_HEADER_BYTES;
    const whole = size >= ATTRIBUTE_HEADER_BYTES + 4;
    const type = view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK;
    if (type === RTA_DST) destination = (whole ? readU32(bytes, value) : 0) as Ipv4;
    else if (type === RTA_GATEWAY) gateway = whole ? (readU32(bytes, value) as Ipv4) : null;
    else if (type === RTA_OIF) interfaceIndex = whole ? view.getUint32(value, true) : 0;
    else if (type === RTA_TABLE) table = whole ? view.getUint32(value, true) : 0;
    else if (type === RTA_PRIORITY) priority = whole ? view.getUint32(value, true) : 0;
    else if (type === RTA_PREFSRC) preferredSource = whole ? (readU32(bytes, value) as Ipv4) : null;
    else if (type === RTA_METRICS)
      mtu = integer(attributesOf({ view, bytes, start: value, end: at + size }, value).get(RTAX_MTU));
    else if (type === RTA_VIA) foreignGateway = true;
    else if (type === RTA_MULTIPATH) multipath = { view, bytes, start: value, end: at + size };
    at += aligned(size);
  }
  const flags = view.getUint32(start + 8, true);
  const position = positionOf(messageFlags);
  return {
    kind: 'route',
    change,
    destination,
    prefixLength: bytes[start + 1]!,
    // The byte in the header holds tables up to 255; the attribute, where it is there, holds any.
    table: table || bytes[start + 4]!,
    protocol: bytes[start + 5]!,
    scope: bytes[start + 6]!,
    type: bytes[start + 7]!,
    priority,
    preferredSource,
    mtu,
    nextHops: multipath ? decodeMultipath(multipath) : onlyHop(gateway, interfaceIndex, flags),
    ...(position === undefined ? {} : { position }),
    ...(flags & RTM_F_CLONED ? { cached: true } : {}),
    ...(foreignGateway ? { foreignGateway } : {}),
  };
}

function decodeNeighbour(body: Range, change: Change): NeighbourMessage | undefined {
  const { view, bytes, start, end } = body;
  if (start + NDMSG_BYTES > end || bytes[start] !== AF_INET) return undefined;
  const attributes = attributesOf(body, start + NDMSG_BYTES);
  const neighbour = address(attributes.get(NDA_DST));
  if (neighbour === null) return undefined;
  const mac = attributes.get(NDA_LLADDR);
  const usable = change === 'set' && (view.getUint16(start + 8, true) & NUD_USABLE) !== 0;
  return {
    kind: 'neighbour',
    change,
    interfaceIndex: view.getInt32(start + 4, true),
    address: neighbour,
    mac:
      usable && mac !== undefined && mac.end - mac.start === MAC_BYTES
        ? formatMac(mac.bytes, mac.start)
        : null,
  };
}

function positionOf(messageFlags: number): RouteMessage['position'] {
  if (messageFlags & NLM_F_REPLACE) return 'replaced';
  return messageFlags & NLM_F_APPEND ? 'appended' : undefined;
}

function nextHop(gateway: Ipv4 | null, interfaceIndex: number, flags: number, weight: number): RouteNextHop {
  return {
    gateway,
    interfaceIndex,
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    dead: (flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) !== 0,
    weight,
  };
}

function onlyHop(gateway: Ipv4 | null, interfaceIndex: number, flags: number): RouteNextHop[] {
  return gateway === null && interfaceIndex === 0 ? [] : [nextHop(gateway, interfaceIndex, flags, 1)];
}

function decodeMultipath({ view, bytes, start, end }: Range): RouteNextHop[] {
  const hops: RouteNextHop[] = [];
  for (let at = start; at + RTNEXTHOP_BYTES <= end; ) {
    const size = view.getUint16(at, true);
    if (size < RTNEXTHOP_BYTES || at + size > end) break;
    const own = attributesOf({ view, bytes, start: at, end: at + size }, at + RTNEXTHOP_BYTES);
    const gateway = address(own.get(RTA_GATEWAY));
    // rtnh_hops is the weight less one.
    hops.push(nextHop(gateway, view.getInt32(at + 4, true), bytes[at + 2]!, bytes[at + 3]! + 1));
    at += aligned(size);
  }
  return hops;
}

interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
}

function request(
  type: number,
  flags: number,
  sequence: number,
  head: Uint8Array,
  attributes: Attribute[],
): Uint8Array {
  const size = attributes.reduce(
    (sum, { value }) => sum + aligned(ATTRIBUTE_HEADER_BYTES + value.length),
    MESSAGE_HEADER_BYTES + head.length,
  );
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, size, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(head, MESSAGE_HEADER_BYTES);
  let at = MESSAGE_HEADER_BYTES + head.length;
  for (const attribute of attributes) {
    view.setUint16(at, ATTRIBUTE_HEADER_BYTES + attribute.value.length, true);
    view.setUint16(at + 2, attribute.type, true);
    bytes.set(attribute.value, at + ATTRIBUTE_HEADER_BYTES);
    at += aligned(ATTRIBUTE_HEADER_BYTES + attribute.value.length);
  }
  return bytes;
}

const DUMPS = {
  links: { type: RTM_GETLINK, headBytes: IFINFO_BYTES, family: AF_UNSPEC },
  addresses: { type: RTM_GETADDR, headBytes: IFADDR_BYTES, family: AF_INET },
  routes: { type: RTM_GETROUTE, headBytes: RTMSG_BYTES, family: AF_INET },
  neighbours: { type: RTM_GETNEIGH, headBytes: NDMSG_BYTES, family: AF_INET },
} as const;

/** Asks for a whole table; the answer ends with `done`. */
export function encodeDump(what: keyof typeof DUMPS, sequence: number): Uint8Array {
  const { type, headBytes, family } = DUMPS[what];
  const head = new Uint8Array(headBytes);
  head[0] = family;
  return request(type, NLM_F_REQUEST | NLM_F_DUMP, sequence, head, []);
}

function addressValue(value: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}

/** Asks which route a packet to `destination`, from `source` where one is given, would take; the answer is one route message or an error. */
export function encodeRouteLookup(destination: Ipv4, sequence: number, source?: Ipv4): Uint8Array {
  const head = new Uint8Array(RTMSG_BYTES);
  head[0] = AF_INET;
  head[1] = 32;
  const attributes = [{ type: RTA_DST, value: addressValue(destination) }];
  if (source !== undefined) {
    head[2] = 32;
    attributes.push({ type: RTA_SRC, value: addressValue(source) });
  }
  return request(RTM_GETROUTE, NLM_F_REQUEST, sequence, head, attributes);
}

function encodeMultipath(hops: readonly RouteNextHop[]): Uint8Array {
  const entries = hops.map((hop) => {
    const gateway = hop.gateway === null ? 0 : 8;
    const bytes = new Uint8Array(RTNEXTHOP_BYTES + gateway);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, bytes.length, true);
    bytes[2] = hop.onlink ? RTNH_F_ONLINK : 0;
    bytes[3] = hop.weight - 1;
    view.setInt32(4, hop.interfaceIndex, true);
    if (hop.gateway !== null) {
      view.setUint16(8, 8, true);
      view.setUint16(10, RTA_GATEWAY, true);
      writeU32(bytes, 12, hop.gateway);
    }
    return bytes;
  });
  return Uint8Array.from(entries.flatMap((entry) => [...entry]));
}

/** Both heads, six attributes of four bytes, one of eight, and the head of the next hops. */
const MOST_ROUTE_BYTES = MESSAGE_HEADER_BYTES + RTMSG_BYTES + 6 * 8 + 12 + ATTRIBUTE_HEADER_BYTES;

/** A route of the main table without what is not said of it. */
export function mainRoute(
  route: Pick<RouteMessage, 'change' | 'destination' | 'prefixLength' | 'protocol' | 'type'> &
    Partial<Pick<RouteMessage, 'scope' | 'priority' | 'nextHops'>>,
): Omit<RouteMessage, 'kind'> {
  return {
    table: RT_TABLE_MAIN,
    scope: SCOPE_UNIVERSE,
    priority: 0,
    preferredSource: null,
    mtu: 0,
    nextHops: [],
    ...route,
  };
}

/** Puts a route into the table in place of one with the same destination and priority, or takes it away. */
export function encodeRoute(
  route: Omit<RouteMessage, 'kind'>,
  sequence: number,
  answer: 'acknowledged' | 'errors only' = 'acknowledged',
): Uint8Array {
  const hop = route.nextHops.length === 1 ? route.nextHops[0] : undefined;
  const multipath = route.nextHops.length > 1 ? encodeMultipath(route.nextHops) : undefined;
  const bytes = new Uint8Array(MOST_ROUTE_BYTES + (multipath?.length ?? 0));
  const view = new DataView(bytes.buffer);
  const set = route.change === 'set';
  view.setUint16(4, set ? RTM_NEWROUTE : RTM_DELROUTE, true);
  const acknowledgement = answer === 'acknowledged' ? NLM_F_ACK : 0;
  view.setUint16(6, NLM_F_REQUEST | acknowledgement | (set ? NLM_F_CREATE | NLM_F_REPLACE : 0), true);
  view.setUint32(8, sequence, true);
  bytes[16] = AF_INET;
  bytes[17] = route.prefixLength;
  bytes[20] = route.table > 255 ? 0 : route.table;
  bytes[21] = route.protocol;
  bytes[22] = route.scope;
  bytes[23] = route.type;
  if (hop?.onlink) view.setUint32(24, RTNH_F_ONLINK, true);
  let at = addInteger(view, MESSAGE_HEADER_BYTES + RTMSG_BYTES, RTA_TABLE, route.table);
  if (route.prefixLength > 0) at = addInteger(view, at, RTA_DST, route.destination, 'network order');
  if (hop && hop.gateway !== null) at = addInteger(view, at, RTA_GATEWAY, hop.gateway, 'network order');
  if (hop && hop.interfaceIndex !== 0) at = addInteger(view, at, RTA_OIF, hop.interfaceIndex);
  if (route.priority !== 0) at = addInteger(view, at, RTA_PRIORITY, route.priority);
  if (route.preferredSource !== null)
    at = addInteger(view, at, RTA_PREFSRC, route.preferredSource, 'network order');
  if (route.mtu !== 0) {
    const inner = addHead(view, at, RTA_METRICS, 2 * ATTRIBUTE_HEADER_BYTES);
    at = addInteger(view, inner, RTAX_MTU, route.mtu);
  }
  if (multipath) {
    const inner = addHead(view, at, RTA_MULTIPATH, multipath.length);
    bytes.set(multipath, inner);
    at = inner + multipath.length;
  }
  view.setUint32(0, at, true);
  return bytes.subarray(0, at);
}

/** The head of an attribute; gives where its value begins. */
function addHead(view: DataView, at: number, type: number, valueBytes: number): number {
  view.setUint16(at, ATTRIBUTE_HEADER_BYTES + valueBytes, true);
  view.setUint16(at + 2, type, true);
  return at + ATTRIBUTE_HEADER_BYTES;
}

/** An attribute of four bytes; gives where the next begins. */
function addInteger(
  view: DataView,
  at: number,
  type: number,
  value: number,
  order: 'host order' | 'network order' = 'host order',
): number {
  view.setUint32(addHead(view, at, type, 4), value, order === 'host order');
  return at + ATTRIBUTE_HEADER_BYTES + 4;
}
