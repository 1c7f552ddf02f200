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
import { formatPrefix, type Prefix, prefixContains } from '../ip/prefix.ts';
import { PrefixMap } from '../ip/prefix-map.ts';
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
  readonly #routes = new PrefixMap<KernelRoute[]>();
  /** Of each prefix the route that our own packets take past our device; looked up again where it is undefined. */
  #underlay: PrefixMap<KernelRoute> | undefined;
  readonly #links = new Map<number, KernelLink>();
  readonly #laid = new PrefixMap<RouteChoice>();
  readonly #uses = new Map<Ipv4, Uses>();
  readonly #peers = new Map<Ipv4, Peer>();
  readonly #disputed = new PrefixMap<Prefix>();
  readonly #marked = new PrefixMap<Prefix>();
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

  linkNamed(name: string): KernelLink | undefined {
    for (const link of this.#links.values()) if (link.name === name) return link;
    return undefined;
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
    this.#underlay = undefined;
    this.#markAll();
  }

  /** Everything anew, as a dump gives it. */
  replace(tables: KernelTables): void {
    this.#links.clear();
    for (const link of tables.links) this.#links.set(link.index, link);
    this.#markAll();
    this.#routes.clear();
    this.#underlay = undefined;
    this.#routeCount = 0;
    for (const route of tables.routes) if (route.type !== 'guard') this.#insert(route, 'appended');
  }

  apply(change: KernelChange): Agreement {
    if (change.kind === 'link') {
      const known = this.#links.get(change.link.index);
      if (change.change === 'set') this.#links.set(change.link.index, change.link);
      else this.#links.delete(change.link.index);
      if (known?.mtu !== change.link.mtu) this.#mtuStale = true;
      return 'agreed';
    }
    if (change.route.type === 'guard') return 'agreed';
    this.#noticeUnderlay(change.route);
    if (change.change === 'deleted') return this.#remove(change.route);
    this.#insert(change.route, change.position);
    return 'agreed';
  }

  /** What makes the table laid so far into what the routes say now. */
  drain(): ForwardingOperation[] {
    const prefixes: ForwardingOperation[] = [];
    for (const prefix of this.#marked.values()) this.#lay(prefix, prefixes);
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
    // Thousands of peers are reached by a few routes.
    const routes = new Set<KernelRoute | undefined>();
    for (const [address, { through }] of this.#uses) if (through > 0) routes.add(this.#routeTo(address));
    const indexes = new Set<number>();
    for (const route of routes) for (const hop of route?.nextHops ?? []) indexes.add(hop.interfaceIndex);
    return [...indexes].flatMap((index) => this.#links.get(index) ?? []);
  }

  /** Next hops through our device that no route leads to but one that is shorter than a guard which covers them. */
  cutOffBy(guards: readonly Prefix[]): readonly Ipv4[] {
    if (guards.length === 0) return [];
    return [...this.#uses].flatMap(([address, { through }]) => {
      const length = this.#routeTo(address)?.prefix.length ?? 0;
      const cutOff = guards.some((guard) => guard.length > length && prefixContains(guard, address));
      return through > 0 && cutOff ? address : [];
    });
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
    const routes = this.#routes.get(route.prefix);
    this.#marked.set(route.prefix, route.prefix);
    if (routes === undefined) {
      this.#routes.set(route.prefix, [route]);
      this.#routeCount++;
    } else this.#insertAmong(routes, route, position);
    this.#findUnderlay(route.prefix);
  }

  #insertAmong(routes: KernelRoute[], route: KernelRoute, position: 'first' | 'replaced' | 'appended'): void {
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
    const routes = this.#routes.get(route.prefix) ?? [];
    const like = (known: KernelRoute) => known.table === route.table && known.metric === route.metric;
    const at = routes.findIndex((known) => like(known) && sameRoute(known, route));
    // Old news, such as what was said before a dump that has its successor already: kept until the next dump.
    if (at < 0) return routes.some(like) ? 'drifted' : 'agreed';
    routes.splice(at, 1);
    this.#routeCount--;
    this.#marked.set(route.prefix, route.prefix);
    if (routes.length === 0) this.#routes.delete(route.prefix);
    this.#findUnderlay(route.prefix);
    return 'agreed';
  }

  #markAll(): void {
    for (const [route] of this.#routes.values()) if (route) this.#marked.set(route.prefix, route.prefix);
    this.#mtuStale = true;
  }

  #lay(prefix: Prefix, operations: ForwardingOperation[]): void {
    const before = this.#laid.get(prefix) ?? NO_CHOICE;
    const after = chooseRoute(this.#routes.get(prefix) ?? [], this.#device);
    if (after.disputed) this.#disputed.set(prefix, prefix);
    else this.#disputed.delete(prefix);
    if (!sameHops(before.entry?.nextHops, after.entry?.nextHops)) {
      if (after.entry) operations.push({ op: 'set-entry', entry: after.entry });
      else operations.push({ op: 'delete-entry', prefix });
      this.#entryCount += Number(after.entry !== null) - Number(before.entry !== null);
    }
    if (!sameHops(before.source?.owners, after.source?.owners)) {
      if (after.source) operations.push({ op: 'set-source', source: after.source });
      else operations.push({ op: 'delete-source', prefix });
    }
    for (const address of after.through) this.#use(address, 'through', 1);
    for (const address of after.beside) this.#use(address, 'beside', 1);
    for (const address of before.through) this.#use(address, 'through', -1);
    for (const address of before.beside) this.#use(address, 'beside', -1);
    if (after === NO_CHOICE) this.#laid.delete(prefix);
    else this.#laid.set(prefix, after);
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
    // What it replaces counts too.
    const isUnderlay = (one: KernelRoute) => this.#isUnderlay(one);
    if (!isUnderlay(route) && !this.#routes.get(route.prefix)?.some(isUnderlay)) return;
    for (const address of this.#peers.keys())
      if (prefixContains(route.prefix, address)) {
        this.#mtuStale = true;
        return;
      }
  }

  #isUnderlay(route: KernelRoute): boolean {
    return route.type === 'unicast' && !route.nextHops.some((hop) => hop.interfaceIndex === this.#device);
  }

  /** The route that an outer packet takes, by main or else any table. */
  #routeTo(address: Ipv4): KernelRoute | undefined {
    if (!this.#underlay) {
      this.#underlay = new PrefixMap();
      for (const [route] of this.#routes.values()) if (route) this.#findUnderlay(route.prefix);
    }
    return this.#underlay.longest(address);
  }

  #findUnderlay(prefix: Prefix): void {
    if (!this.#underlay) return;
    let found: KernelRoute | undefined;
    for (const route of this.#routes.get(prefix) ?? [])
      if (this.#isUnderlay(route) && (!found || (found.table !== MAIN_TABLE && route.table === MAIN_TABLE)))
        found = route;
    if (found) this.#underlay.set(prefix, found);
    else this.#underlay.delete(prefix);
  }
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
