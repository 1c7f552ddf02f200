/**
 * What this node's tables and host should be, kept change by change.
 *
 * Theory of operation. Each thing of the cluster (the node itself, a local workload, a block, another node, a
 * pool) is an origin and contributes rows to five tables: forwarding entries, sources, routes, peers, sysctls
 * (contributions.ts). Where two origins claim one prefix, the one earlier in ORIGIN_RANK wins. `update` recomputes
 * the contributions that a change of the view may have touched: a block's change, only that block's; a node's,
 * the node's and those of the blocks it has to do with; of a pool, of this node or of the host, all. What comes
 * out is the difference between the winners before and after: a small list of operations for the data plane and
 * of routes for the host. A property test holds the incremental result against one computed from nothing.
 */
import type {
  ForwardingConfig,
  ForwardingEntry,
  ForwardingOperation,
  Peer,
  SourceEntry,
} from '../fib/forwarding-config.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix, type InterfaceAddress, type Prefix, parsePrefix } from '../ip/prefix.ts';
import type { ClusterView, NodeView, ViewChange } from './cluster-view.ts';
import {
  blockContribution,
  type Context,
  type Contribution,
  type NodeSettings,
  nodeContribution,
  poolContribution,
  selfContribution,
  workloadContribution,
} from './contributions.ts';
import { LayeredTable, type TableChange } from './layered-table.ts';
import { chooseMtu } from './mtu.ts';
import {
  type ForeignRoute,
  formatRoute,
  type HostFacts,
  type HostRoute,
  type HostState,
  type PacketRules,
  type TunnelDevice,
} from './ports.ts';
import { Underlay } from './underlay.ts';

/** Origins are named `RANK NAME`; the lower rank wins a prefix. */
const ORIGIN_RANK = { self: 'a', workload: 'b', block: 'c', node: 'd', pool: 'e' } as const;
type OriginType = keyof typeof ORIGIN_RANK;

export interface DesiredChange {
  readonly operations: readonly ForwardingOperation[];
  /** Prefixes whose route is another now, or none. */
  readonly routes: readonly string[];
}

interface Tables {
  readonly entries: LayeredTable<ForwardingEntry>;
  readonly sources: LayeredTable<SourceEntry>;
  readonly routes: LayeredTable<HostRoute>;
  readonly peers: LayeredTable<Peer>;
  readonly sysctls: LayeredTable<string>;
}

const sameJson = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

export class DesiredState {
  readonly #settings: NodeSettings;
  readonly #view: ClusterView;
  readonly #contributions = new Map<string, Contribution>();
  readonly #tables: Tables = {
    entries: new LayeredTable<ForwardingEntry>(sameJson),
    sources: new LayeredTable<SourceEntry>(sameJson),
    routes: new LayeredTable<HostRoute>((a, b) => formatRoute(a) === formatRoute(b)),
    peers: new LayeredTable<Peer>(sameJson),
    sysctls: new LayeredTable<string>((a, b) => a === b),
  };
  #context: Context;
  #facts: HostFacts;
  #local: { outerSource: Ipv4 | null; localAddresses: readonly Ipv4[] | null } = {
    outerSource: null,
    localAddresses: null,
  };
  #external: readonly Prefix[] = [];
  /** What IPAM says our tunnel address is; undefined until it has said: then what the Node resource has. */
  #assigned: Ipv4 | null | undefined;

  constructor(settings: NodeSettings, view: ClusterView, facts: HostFacts) {
    this.#settings = settings;
    this.#view = view;
    this.#facts = facts;
    this.#context = this.#newContext();
    this.rebuild();
  }

  /** The host changed: links, addresses or the routes that others made. */
  setFacts(facts: HostFacts): DesiredChange {
    if (sameJson(facts, this.#facts)) return { operations: [], routes: [] };
    this.#facts = facts;
    return this.rebuild();
  }

  /**
   * IPAM gave this node its tunnel address, or none. From then on that holds: an `apply` that strips the Node
   * resource must not take the address off the device for the moment until the agent has put it back.
   */
  setTunnelAddress(address: Ipv4 | null): DesiredChange {
    if (address === this.#assigned) return { operations: [], routes: [] };
    this.#assigned = address;
    return this.rebuild();
  }

  knowsLink(device: string): boolean {
    return this.#context.underlay.hasLink(device);
  }

  /** After changes of the view. */
  update(changes: readonly ViewChange[]): DesiredChange {
    if (changes.some((change) => this.#touchesAll(change))) return this.rebuild();
    const origins = new Set<string>();
    for (const change of changes) this.#collectOrigins(change, origins);
    for (const origin of origins) this.#recompute(origin);
    return this.#drain();
  }

  /** Recomputes every contribution; gives what differs from before. */
  rebuild(): DesiredChange {
    this.#context = this.#newContext();
    const origins = new Set<string>([originOf('self', '')]);
    for (const key of this.#view.workloads.keys()) origins.add(originOf('workload', key));
    for (const key of this.#view.blocks.keys()) origins.add(originOf('block', key));
    for (const key of this.#view.nodes.keys()) origins.add(originOf('node', key));
    for (const key of this.#view.pools.keys()) origins.add(originOf('pool', key));
    for (const origin of this.#contributions.keys()) origins.add(origin);
    for (const origin of origins) this.#recompute(origin);
    return this.#drain();
  }

  get entryCount(): number {
    return this.#tables.entries.size;
  }

  /** Somebody else's route that ours would replace: same prefix, and the metric that ours have. */
  foreignRoute(prefix: Prefix): ForeignRoute | undefined {
    return this.#facts.routes.find(
      (r) => r.metric === 0 && r.prefix.address === prefix.address && r.prefix.length === prefix.length,
    );
  }

  peers(): readonly Peer[] {
    return valuesOf(this.#tables.peers);
  }

  /** By formatPrefix. */
  get routes(): { get(key: string): HostRoute | undefined } {
    return this.#tables.routes;
  }

  /** The whole table for the data plane. */
  forwarding(revision: number): ForwardingConfig {
    return Object.freeze({
      revision,
      ...this.#local,
      entries: valuesOf(this.#tables.entries),
      peers: valuesOf(this.#tables.peers),
      sources: valuesOf(this.#tables.sources),
      externalSources: this.#external,
    });
  }

  host(): HostState {
    return { ...this.hostWithoutRoutes(), routes: new Map(this.#tables.routes.entries()) };
  }

  /** All but the routes: few values, compared at every change. */
  hostWithoutRoutes(): HostState {
    return {
      routes: new Map(),
      sysctls: new Map(this.#tables.sysctls.entries()),
      device: this.device(),
      rules: this.rules(),
    };
  }

  device(): TunnelDevice {
    const { tunnelAddress, underlay, self } = this.#context;
    const device = self && underlay.deviceOf(self.address);
    return {
      name: this.#settings.device,
      up: true,
      mtu: chooseMtu({
        configured: this.#settings.mtu,
        felix: this.#view.felix,
        node: this.#settings.node,
        underlay: underlay.mtuOf(device || ''),
        mayUseUdp: this.#settings.transport !== 'ipip',
      }),
      addresses: tunnelAddress === null ? [] : [{ address: tunnelAddress, length: 32 }],
    };
  }

  rules(): PacketRules {
    const pools = [...this.#view.pools.values()];
    const sorted = (list: Prefix[]) => list.sort((a, b) => a.address - b.address || a.length - b.length);
    return {
      pools: sorted(pools.map((pool) => pool.prefix)),
      natPools: sorted(pools.filter((pool) => pool.natOutgoing).map((pool) => pool.prefix)),
      device: this.#settings.device,
      tunnelAddress: this.#context.tunnelAddress,
      udpPort: this.#settings.udpPort,
    };
  }

  /** One line each, the same thing once. */
  warnings(): string[] {
    const lines = new Set<string>();
    for (const contribution of this.#contributions.values())
      for (const warning of contribution.warnings) lines.add(warning);
    for (const [key, problem] of this.#view.problems) lines.add(`${key} is skipped: ${problem}`);
    if (!this.#view.nodes.has(this.#settings.node))
      lines.add(`the Node resource ${this.#settings.node} is gone; what it said last is kept`);
    return [...lines];
  }

  /** This node's address: the last one known stays where its resource is gone or has none. */
  #newContext(): Context {
    const node = this.#view.nodes.get(this.#settings.node);
    const before = this.#context as Context | undefined;
    const self: InterfaceAddress | null = node?.address ?? before?.self ?? null;
    return {
      settings: this.#settings,
      view: this.#view,
      underlay: new Underlay(this.#facts, this.#settings.device),
      self,
      tunnelAddress: this.#tunnelAddress(node, before),
    };
  }

  #tunnelAddress(node: NodeView | undefined, before: Context | undefined): Ipv4 | null {
    if (this.#assigned !== undefined) return this.#assigned;
    return node ? node.tunnelAddress : (before?.tunnelAddress ?? null);
  }

  #touchesAll(change: ViewChange): boolean {
    switch (change.type) {
      case 'block':
      case 'workload':
        return false;
      case 'node':
        return change.key === this.#settings.node;
      default:
        return true;
    }
  }

  #collectOrigins(change: ViewChange, origins: Set<string>): void {
    if (!('key' in change)) return;
    origins.add(originOf(change.type, change.key));
    if (change.type === 'node')
      for (const block of this.#view.blocksOfNode.get(change.key) ?? [])
        origins.add(originOf('block', block));
    if (change.type === 'block')
      for (const node of this.#nodesWithTunnelAddressIn(change.key)) origins.add(originOf('node', node));
  }

  /** Whether a tunnel address needs a /32 of its own depends on the block around it. */
  #nodesWithTunnelAddressIn(block: string): string[] {
    const prefix = parsePrefix(block);
    if (!prefix) return [];
    const nodes: string[] = [];
    for (let offset = 0; offset < 2 ** (32 - prefix.length); offset++) {
      const named = this.#view.nodesOfTunnelAddress.get((prefix.address + offset) as Ipv4);
      if (named) nodes.push(...named);
    }
    return nodes;
  }

  #recompute(origin: string): void {
    const before = this.#contributions.get(origin);
    const after = this.#contributionOf(origin);
    const { entries, sources, routes, peers, sysctls } = this.#tables;
    exchange(entries, origin, before?.entries, after?.entries, prefixKey);
    exchange(sources, origin, before?.sources, after?.sources, prefixKey);
    exchange(routes, origin, before?.routes, after?.routes, prefixKey);
    exchange(peers, origin, before?.peers, after?.peers, (peer) => formatIpv4(peer.address));
    exchangePairs(sysctls, origin, before?.sysctls, after?.sysctls);
    if (after) this.#contributions.set(origin, after);
    else this.#contributions.delete(origin);
  }

  #contributionOf(origin: string): Contribution | undefined {
    const name = origin.slice(2);
    const { workloads, blocks, nodes, pools } = this.#view;
    const apply = <T>(thing: T | undefined, contribute: (context: Context, thing: T) => Contribution) =>
      thing && contribute(this.#context, thing);
    switch (origin[0]) {
      case ORIGIN_RANK.self:
        return selfContribution(this.#context);
      case ORIGIN_RANK.workload:
        return apply(workloads.get(name), workloadContribution);
      case ORIGIN_RANK.block:
        return apply(blocks.get(name), blockContribution);
      case ORIGIN_RANK.node:
        return apply(nodes.get(name), nodeContribution);
      default:
        return apply(pools.get(name), (_context, pool) => poolContribution(pool));
    }
  }

  #drain(): DesiredChange {
    const { entries, sources, routes, peers, sysctls } = this.#tables;
    const operations: ForwardingOperation[] = [];
    // Peers before the entries that name them, and away after these.
    const peerChanges = peers.drainChanges();
    for (const { after } of peerChanges) if (after) operations.push({ op: 'set-peer', peer: after });
    operations.push(...this.#localOperations());
    for (const change of entries.drainChanges()) operations.push(entryOperation(change));
    for (const change of sources.drainChanges()) operations.push(sourceOperation(change));
    for (const { before, after } of peerChanges)
      if (before && !after) operations.push({ op: 'delete-peer', address: before.address });
    sysctls.drainChanges();
    return { operations, routes: routes.drainChanges().map((change) => change.key) };
  }

  #localOperations(): ForwardingOperation[] {
    const address = this.#context.self?.address ?? null;
    const local = { outerSource: address, localAddresses: address === null ? null : [address] };
    const felix = this.#view.felix;
    const external =
      felix.get(`node.${this.#settings.node}`)?.externalNodes ?? felix.get('default')?.externalNodes ?? [];
    const operations: ForwardingOperation[] = [];
    if (!sameJson(local, this.#local)) operations.push({ op: 'set-local', ...local });
    if (!sameJson(external, this.#external))
      operations.push({ op: 'set-external-sources', prefixes: external });
    this.#local = local;
    this.#external = external;
    return operations;
  }
}

function originOf(type: OriginType, name: string): string {
  return `${ORIGIN_RANK[type]} ${name}`;
}

const prefixKey = (row: { readonly prefix: Prefix }) => formatPrefix(row.prefix);

function valuesOf<V>(table: LayeredTable<V>): V[] {
  return [...table.entries()].map(([, value]) => value);
}

function exchange<V>(
  table: LayeredTable<V>,
  origin: string,
  before: readonly V[] = [],
  after: readonly V[] = [],
  keyOf: (value: V) => string,
): void {
  exchangePairs(
    table,
    origin,
    before.map((value) => [keyOf(value), value] as const),
    after.map((value) => [keyOf(value), value] as const),
  );
}

function exchangePairs<V>(
  table: LayeredTable<V>,
  origin: string,
  before: readonly (readonly [string, V])[] = [],
  after: readonly (readonly [string, V])[] = [],
): void {
  const keys = new Set(after.map(([key]) => key));
  for (const [key] of before) if (!keys.has(key)) table.remove(key, origin);
  for (const [key, value] of after) table.put(key, origin, value);
}

function entryOperation(change: TableChange<ForwardingEntry>): ForwardingOperation {
  return change.after
    ? { op: 'set-entry', entry: change.after }
    : { op: 'delete-entry', prefix: change.before!.prefix };
}

function sourceOperation(change: TableChange<SourceEntry>): ForwardingOperation {
  return change.after
    ? { op: 'set-source', source: change.after }
    : { op: 'delete-source', prefix: change.before!.prefix };
}
