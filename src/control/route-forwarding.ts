/**
 * Theory of operation: the second source of ForwardingConfig, kernel routes (the first are resources,
 * desired-state.ts). Both fill the same port, ForwardingSink.
 *
 * The routes of all tables are kept by prefix, in the kernel's order. A message about a route marks its prefix;
 * `drain` chooses anew for the marked prefixes (route-choice.ts), compares with what was laid, and gives the
 * operations that make up the difference: the cost of a change does not grow with the table. A dump replaces all
 * routes, and the same comparison finds what really changed.
 *
 * Next hops are the peers, counted by the prefixes that name them, through our device or beside it. Their MTU is
 * that of the link which our own routes, other than those into the device, reach them by.
 *
 * Order within a change: peers before the prefixes that name them, and gone peers last, so that a table never
 * points to nobody.
 */
import type { ForwardingConfig, ForwardingOperation, Peer } from '../fib/forwarding-config.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import type { Transport, UnderlayMtu } from '../ip/mtu.ts';
import { formatPrefix, netmask, type Prefix, prefixContains } from '../ip/prefix.ts';
import type { KernelChange, KernelLink, KernelRoute, KernelTables } from './kernel-tables.ts';
import { MAIN_TABLE } from './kernel-tables.ts';
import { chooseRoute, NO_CHOICE, type RouteChoice } from './route-choice.ts';

/** For a peer that no route leads to: the sending kernel has the last word. */
const USUAL_MTU = 1500;

export interface RouteForwardingSettings {
  /** Source of the outer header, and then the only outer destination that is ours; null leaves it to the kernel. */
  readonly local: Ipv4 | null;
  readonly allow: readonly Prefix[];
  readonly transport: Transport;
  readonly udpPort: number;
}

/** A route that a message deletes was not the one known: the tables have drifted, ask for a dump. */
export type Agreement = 'agreed' | 'drifted';

interface Uses {
  through: number;
  beside: number;
}

export class RouteForwarding {
  readonly #settings: RouteForwardingSettings;
  #routes = new Map<number, KernelRoute[]>();
  readonly #prefixesOfLength = new Int32Array(33);
  readonly #links = new Map<number, KernelLink>();
  readonly #laid = new Map<number, RouteChoice>();
  readonly #uses = new Map<Ipv4, Uses>();
  readonly #peers = new Map<Ipv4, Peer>();
  readonly #disputed = new Map<number, Prefix>();
  readonly #marked = new Set<number>();
  readonly #markedPeers = new Set<Ipv4>();
  #mtuStale = false;
  #device: number | null = null;
  #routeCount = 0;
  #entryCount = 0;

  constructor(settings: RouteForwardingSettings) {
    this.#settings = settings;
  }

  /** Routes known, of all tables and devices. */
  get routeCount(): number {
    return this.#routeCount;
  }

  /** Prefixes that our device forwards. */
  get entryCount(): number {
    return this.#entryCount;
  }

  link(index: number): KernelLink | undefined {
    return this.#links.get(index);
  }

  /** Prefixes whose routes through our device differ from table to table; main has the word. */
  disputed(): readonly Prefix[] {
    return [...this.#disputed.values()];
  }

  /** Prefixes whose route through our device has no gateway: the outer packet goes to the inner destination. */
  withoutGateway(): readonly Prefix[] {
    return [...this.#laid.values()].flatMap(({ entry }) =>
      entry?.nextHops === 'inner-destination' ? entry.prefix : [],
    );
  }

  /** Our device; null while there is none. */
  setDevice(index: number | null): void {
    if (this.#device === index) return;
    this.#device = index;
    this.#markAll();
  }

  /** Everything anew, as a dump gives it. */
  replace(tables: KernelTables): void {
    this.#links.clear();
    for (const link of tables.links) this.#links.set(link.index, link);
    for (const key of this.#routes.keys()) this.#marked.add(key);
    this.#routes = new Map();
    this.#prefixesOfLength.fill(0);
    this.#routeCount = 0;
    for (const route of tables.routes) this.#insert(route, 'appended');
    this.#mtuStale = true;
  }

  apply(change: KernelChange): Agreement {
    if (change.kind === 'link') {
      const known = this.#links.get(change.link.index);
      if (change.change === 'set') this.#links.set(change.link.index, change.link);
      else this.#links.delete(change.link.index);
      if (known?.mtu !== change.link.mtu) this.#mtuStale = true;
      return 'agreed';
    }
    this.#noticeUnderlay(change.route);
    if (change.change === 'deleted') return this.#remove(change.route);
    this.#insert(change.route, change.position);
    return 'agreed';
  }

  /** What makes the table laid so far into what the routes say now. */
  drain(): ForwardingOperation[] {
    const prefixes: ForwardingOperation[] = [];
    for (const key of this.#marked) this.#lay(key, prefixes);
    this.#marked.clear();
    if (this.#mtuStale) for (const address of this.#peers.keys()) this.#markedPeers.add(address);
    this.#mtuStale = false;
    const [come, gone]: [ForwardingOperation[], ForwardingOperation[]] = [[], []];
    for (const address of this.#markedPeers) this.#layPeer(address, come, gone);
    this.#markedPeers.clear();
    return [...come, ...prefixes, ...gone];
  }

  /** What is laid, as a snapshot. Drain first. */
  config(revision: number): ForwardingConfig {
    const { local, allow } = this.#settings;
    const choices = [...this.#laid.values()];
    return {
      revision,
      outerSource: local,
      localAddresses: local === null ? null : [local],
      entries: choices.flatMap(({ entry }) => entry ?? []),
      peers: [...this.#peers.values()],
      sources: choices.flatMap(({ source }) => source ?? []),
      externalSources: allow,
      byRoutes: true,
    };
  }

  peer(address: Ipv4): Peer | undefined {
    return this.#peers.get(address);
  }

  /** Links that peers of our device are reached by. */
  underlayLinks(): readonly KernelLink[] {
    const indexes = new Set<number>();
    for (const [address, { through }] of this.#uses)
      if (through > 0)
        for (const hop of this.#routeTo(address)?.nextHops ?? []) indexes.add(hop.interfaceIndex);
    return [...indexes].flatMap((index) => this.#links.get(index) ?? []);
  }

  /** The underlay's MTU towards `address`; undefined where no route leads there. */
  underlayMtu(address: Ipv4): number | undefined {
    const route = this.#routeTo(address);
    if (route === undefined) return undefined;
    if (route.mtu > 0) return route.mtu;
    const mtus = route.nextHops.map((hop) => this.#links.get(hop.interfaceIndex)?.mtu ?? USUAL_MTU);
    return mtus.length > 0 ? Math.min(...mtus) : undefined;
  }

  /** The MTU by which most of the world is reached: that of the default route. */
  defaultMtu(): number | undefined {
    return this.underlayMtu(this.#settings.local ?? (0 as Ipv4)) ?? this.underlayMtu(0 as Ipv4);
  }

  #insert(route: KernelRoute, position: 'first' | 'replaced' | 'appended'): void {
    const key = keyOf(route.prefix);
    const routes = this.#routes.get(key);
    this.#marked.add(key);
    if (routes === undefined) {
      this.#routes.set(key, [route]);
      this.#prefixesOfLength[route.prefix.length]!++;
      this.#routeCount++;
      return;
    }
    const at = routes.findIndex((known) => known.table === route.table && known.metric === route.metric);
    if (at >= 0 && (position === 'replaced' || sameRoute(routes[at]!, route))) {
      routes[at] = route;
      return;
    }
    if (at < 0 || position === 'appended') routes.push(route);
    else routes.splice(at, 0, route);
    this.#routeCount++;
  }

  #remove(route: KernelRoute): Agreement {
    const key = keyOf(route.prefix);
    const routes = this.#routes.get(key) ?? [];
    const like = (known: KernelRoute) => known.table === route.table && known.metric === route.metric;
    const at = routes.findIndex((known) => like(known) && sameRoute(known, route));
    // Old news, such as what was said before a dump that has its successor already: kept until the next dump.
    if (at < 0) return routes.some(like) ? 'drifted' : 'agreed';
    routes.splice(at, 1);
    this.#routeCount--;
    this.#marked.add(key);
    if (routes.length === 0) {
      this.#routes.delete(key);
      this.#prefixesOfLength[route.prefix.length]!--;
    }
    return 'agreed';
  }

  #markAll(): void {
    for (const key of this.#routes.keys()) this.#marked.add(key);
    this.#mtuStale = true;
  }

  #lay(key: number, operations: ForwardingOperation[]): void {
    const before = this.#laid.get(key) ?? NO_CHOICE;
    const after = chooseRoute(this.#routes.get(key) ?? [], this.#device);
    if (after.disputed) this.#disputed.set(key, after.entry!.prefix);
    else if (this.#disputed.size > 0) this.#disputed.delete(key);
    if (!sameHops(before.entry?.nextHops, after.entry?.nextHops)) {
      if (after.entry) operations.push({ op: 'set-entry', entry: after.entry });
      else operations.push({ op: 'delete-entry', prefix: before.entry!.prefix });
      this.#entryCount += Number(after.entry !== null) - Number(before.entry !== null);
    }
    if (!sameHops(before.source?.owners, after.source?.owners)) {
      if (after.source) operations.push({ op: 'set-source', source: after.source });
      else operations.push({ op: 'delete-source', prefix: before.source!.prefix });
    }
    for (const address of after.through) this.#use(address, 'through', 1);
    for (const address of after.beside) this.#use(address, 'beside', 1);
    for (const address of before.through) this.#use(address, 'through', -1);
    for (const address of before.beside) this.#use(address, 'beside', -1);
    if (after === NO_CHOICE) this.#laid.delete(key);
    else this.#laid.set(key, after);
  }

  #use(address: Ipv4, how: keyof Uses, count: 1 | -1): void {
    let uses = this.#uses.get(address);
    if (uses === undefined) {
      uses = { through: 0, beside: 0 };
      this.#uses.set(address, uses);
    }
    uses[how] += count;
    this.#markedPeers.add(address);
  }

  #layPeer(address: Ipv4, come: ForwardingOperation[], gone: ForwardingOperation[]): void {
    const uses = this.#uses.get(address);
    const before = this.#peers.get(address);
    if (uses === undefined || uses.through + uses.beside === 0) {
      this.#uses.delete(address);
      if (before && this.#peers.delete(address)) gone.push({ op: 'delete-peer', address });
      return;
    }
    const { transport, udpPort } = this.#settings;
    const peer: Peer = {
      address,
      transport: uses.through > 0 ? transport : 'none',
      udpPort: transport === 'udp' ? udpPort : 0,
      mtu: (this.underlayMtu(address) ?? USUAL_MTU) as UnderlayMtu,
    };
    if (before?.transport === peer.transport && before.mtu === peer.mtu) return;
    this.#peers.set(address, peer);
    come.push({ op: 'set-peer', peer });
  }

  /** A route that peers are reached by has changed: their MTUs are looked up again. */
  #noticeUnderlay(route: KernelRoute): void {
    if (this.#mtuStale) return;
    const isUnderlay = (one: KernelRoute) => one.type === 'unicast' && !this.#isOurs(one);
    // What it replaces counts too.
    if (!isUnderlay(route) && !this.#routes.get(keyOf(route.prefix))?.some(isUnderlay)) return;
    for (const address of this.#peers.keys())
      if (prefixContains(route.prefix, address)) {
        this.#mtuStale = true;
        return;
      }
  }

  #isOurs(route: KernelRoute): boolean {
    return route.nextHops.some((hop) => hop.interfaceIndex === this.#device);
  }

  /** The route that an outer packet takes, by main or else any table. */
  #routeTo(address: Ipv4): KernelRoute | undefined {
    for (let length = 32; length >= 0; length--) {
      if (this.#prefixesOfLength[length] === 0) continue;
      const routes = this.#routes.get(
        keyOf({ address: ((address & netmask(length)) >>> 0) as Ipv4, length }),
      );
      const found = routes?.filter((route) => route.type === 'unicast' && !this.#isOurs(route));
      if (found?.length) return found.find((route) => route.table === MAIN_TABLE) ?? found[0];
    }
    return undefined;
  }
}

/** A number for a Map: 38 bits. */
function keyOf(prefix: Prefix): number {
  return prefix.address * 64 + prefix.length;
}

type Hops = readonly Ipv4[] | string | undefined;

function sameHops(a: Hops, b: Hops): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  return a.length === b.length && a.every((hop, i) => hop === b[i]);
}

function sameRoute(a: KernelRoute, b: KernelRoute): boolean {
  return (
    a.type === b.type &&
    a.mtu === b.mtu &&
    a.nextHops.length === b.nextHops.length &&
    a.nextHops.every((hop, i) => {
      const other = b.nextHops[i]!;
      return (
        hop.gateway === other.gateway &&
        hop.interfaceIndex === other.interfaceIndex &&
        hop.weight === other.weight
      );
    })
  );
}

/** `192.168.104.0/26 via 10.0.2.11`, for the status. */
export function describeOperation(operation: ForwardingOperation): string | undefined {
  if (operation.op === 'delete-entry') return `${formatPrefix(operation.prefix)} is gone`;
  if (operation.op !== 'set-entry') return undefined;
  const { prefix, nextHops } = operation.entry;
  const via = nextHops === 'inner-destination' ? 'itself' : [...new Set(nextHops)].map(formatIpv4).join(', ');
  return `${formatPrefix(prefix)} by ${via}`;
}
