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
import { formatPrefix, type Prefix, parsePrefix } from '../ip/prefix.ts';
import type { BlockView, ClusterView, NodeView, ViewChange } from './cluster-view.ts';
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
import { LayeredTable, type Origin, type TableChange } from './layered-table.ts';
import { chooseMtu } from './mtu.ts';
import {
  type ForeignRoute,
  type HostFacts,
  type HostRoute,
  type HostState,
  isSameRoute,
  type PacketRules,
  type TunnelDevice,
} from './ports.ts';
import { isSameContribution, isSameEntry, isSamePeer, isSameSource } from './same-rows.ts';
import { Underlay } from './underlay.ts';

/** The lower rank wins a prefix. */
const ORIGIN_RANK = { self: 0, workload: 1, block: 2, node: 3, pool: 4 } as const;
type OriginType = keyof typeof ORIGIN_RANK;
const ORIGIN_TYPES = Object.keys(ORIGIN_RANK) as OriginType[];

interface Contributed {
  readonly origin: Origin;
  readonly contribution: Contribution;
}

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
  readonly sysctls: LayeredTable<readonly [path: string, value: string]>;
}

const NO_CHANGE: DesiredChange = Object.freeze({ operations: [], routes: [] });
const NO_CONTRIBUTION: Contribution = Object.freeze({
  entries: [],
  sources: [],
  routes: [],
  peers: [],
  sysctls: [],
  warnings: [],
});

const sameJson = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

export class DesiredState {
  readonly #settings: NodeSettings;
  readonly #view: ClusterView;
  readonly #contributions: Readonly<Record<OriginType, Map<string, Contributed>>> = {
    self: new Map(),
    workload: new Map(),
    block: new Map(),
    node: new Map(),
    pool: new Map(),
  };
  readonly #tables: Tables = {
    entries: new LayeredTable<ForwardingEntry>(isSameEntry),
    sources: new LayeredTable<SourceEntry>(isSameSource),
    routes: new LayeredTable<HostRoute>(isSameRoute),
    peers: new LayeredTable<Peer>(isSamePeer),
    sysctls: new LayeredTable<readonly [string, string]>((a, b) => a[1] === b[1]),
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
    this.#recomputeAll();
    this.#localOperations();
    for (const table of Object.values(this.#tables)) table.trackChanges();
  }

  /** The host changed: links, addresses or the routes that others made. */
  setFacts(facts: HostFacts): DesiredChange {
    if (sameJson(facts, this.#facts)) return NO_CHANGE;
    this.#facts = facts;
    return this.rebuild();
  }

  /**
   * IPAM gave this node its tunnel address, or none. From then on that holds: an `apply` that strips the Node
   * resource must not take the address off the device for the moment until the agent has put it back.
   */
  setTunnelAddress(address: Ipv4 | null): DesiredChange {
    if (address === this.#assigned) return NO_CHANGE;
    this.#assigned = address;
    return this.#update([['self', '']]);
  }

  knowsLink(device: string): boolean {
    return this.#context.underlay.hasLink(device);
  }

  /** After changes of the view. */
  update(changes: readonly ViewChange[]): DesiredChange {
    if (changes.some((change) => this.#touchesAll(change))) return this.rebuild();
    return this.#update(changes.flatMap((change) => this.#touchedBy(change)));
  }

  #update(touched: readonly (readonly [OriginType, string])[]): DesiredChange {
    // Who this node is comes from its resource and from IPAM; everything of the context but that stays.
    if (touched.some(([type]) => type === 'self')) this.#context = { ...this.#context, ...this.#identity() };
    const distinct = new Map(touched.map((origin) => [origin.join(' '), origin]));
    for (const [type, name] of distinct.values()) this.#recompute(type, name);
    return this.#drain();
  }

  /** Recomputes every contribution; gives what differs from before. */
  rebuild(): DesiredChange {
    this.#context = this.#newContext();
    this.#recomputeAll();
    return this.#drain();
  }

  #recomputeAll(): void {
    const { workloads, blocks, nodes, pools } = this.#view;
    const present: Readonly<Record<OriginType, ReadonlyMap<string, unknown>>> = {
      self: new Map([['', null]]),
      workload: workloads,
      block: blocks,
      node: nodes,
      pool: pools,
    };
    for (const type of ORIGIN_TYPES) {
      for (const name of present[type].keys()) this.#recompute(type, name);
      for (const name of this.#contributions[type].keys())
        if (!present[type].has(name)) this.#recompute(type, name);
    }
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
    return this.#tables.peers.values();
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
      entries: this.#tables.entries.values(),
      peers: this.#tables.peers.values(),
      sources: this.#tables.sources.values(),
      externalSources: this.#external,
    });
  }

  host(): HostState {
    return { ...this.hostWithoutRoutes(), routes: this.#tables.routes.winners() };
  }

  /** All but the routes: few values, compared at every change. */
  hostWithoutRoutes(): HostState {
    return {
      routes: new Map(),
      sysctls: new Map(this.#tables.sysctls.values()),
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
    for (const type of ORIGIN_TYPES)
      for (const { contribution } of this.#contributions[type].values())
        for (const warning of contribution.warnings) lines.add(warning);
    for (const [key, problem] of this.#view.problems) lines.add(`${key} is skipped: ${problem}`);
    const { node } = this.#settings;
    if (!this.#view.nodes.has(node))
      lines.add(`the Node resource ${node} is gone; what it said last is kept`);
    else if (!this.#view.nodes.get(node)?.address)
      lines.add(
        `the Node resource ${node} has no spec.bgp.ipv4Address: other nodes send nothing here; what it said last is kept`,
      );
    return [...lines];
  }

  #newContext(): Context {
    return {
      settings: this.#settings,
      view: this.#view,
      underlay: new Underlay(this.#facts, this.#settings.device),
      hops: new Map(),
      ...this.#identity(),
    };
  }

  /** This node's addresses: the last ones known stay where its resource is gone or has none. */
  #identity(): Pick<Context, 'self' | 'tunnelAddress'> {
    const node = this.#view.nodes.get(this.#settings.node);
    const before = this.#context as Context | undefined;
    return {
      self: node?.address ?? before?.self ?? null,
      tunnelAddress: this.#tunnelAddress(node, before),
    };
  }

  #tunnelAddress(node: NodeView | undefined, before: Context | undefined): Ipv4 | null {
    if (this.#assigned !== undefined) return this.#assigned;
    return node ? node.tunnelAddress : (before?.tunnelAddress ?? null);
  }

  /** Pools, and Felix's ipipEnabled, decide about every block; and whoever has another address has another way to every node. */
  #touchesAll(change: ViewChange): boolean {
    if (change.type === 'pools' || change.type === 'felix') return true;
    return (
      change.type === 'node' &&
      change.key === this.#settings.node &&
      !sameJson(this.#identity().self, this.#context.self)
    );
  }

  #touchedBy(change: ViewChange): (readonly [OriginType, string])[] {
    if (!('key' in change)) return [];
    const touched: (readonly [OriginType, string])[] = [[change.type, change.key]];
    if (change.type === 'node') {
      if (change.key === this.#settings.node) touched.push(['self', '']);
      for (const block of this.#view.blocksOfNode.get(change.key) ?? []) touched.push(['block', block]);
    }
    if (change.type === 'block')
      for (const node of this.#nodesWithTunnelAddressIn(change.key)) touched.push(['node', node]);
    return touched;
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

  #recompute(type: OriginType, name: string): void {
    const known = this.#contributions[type].get(name);
    const before = known?.contribution ?? NO_CONTRIBUTION;
    const after = this.#contributionOf(type, name);
    // Most of what is looked at anew is as it was.
    if (after && isSameContribution(before, after)) {
      if (!known)
        this.#contributions[type].set(name, {
          origin: { rank: ORIGIN_RANK[type], name },
          contribution: after,
        });
      return;
    }
    const origin = known?.origin ?? { rank: ORIGIN_RANK[type], name };
    const { entries, sources, routes, peers, sysctls } = this.#tables;
    const now = after ?? NO_CONTRIBUTION;
    const keyOf = prefixKeys(type === 'block' ? this.#view.blocks.get(name) : undefined);
    exchange(entries, origin, before.entries, now.entries, keyOf);
    exchange(sources, origin, before.sources, now.sources, keyOf);
    exchange(routes, origin, before.routes, now.routes, keyOf);
    exchange(peers, origin, before.peers, now.peers, peerKey);
    exchange(sysctls, origin, before.sysctls, now.sysctls, ([path]) => path);
    if (after) this.#contributions[type].set(name, { origin, contribution: after });
    else this.#contributions[type].delete(name);
  }

  #contributionOf(type: OriginType, name: string): Contribution | undefined {
    const { workloads, blocks, nodes, pools } = this.#view;
    const context = this.#context;
    switch (type) {
      case 'self':
        return selfContribution(context);
      case 'workload':
        return from(workloads.get(name), (workload) => workloadContribution(context, workload));
      case 'block':
        return from(blocks.get(name), (block) => blockContribution(context, block));
      case 'node':
        return from(nodes.get(name), (node) => nodeContribution(context, node));
      case 'pool':
        return from(pools.get(name), poolContribution);
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

function from<T>(thing: T | undefined, contribute: (thing: T) => Contribution): Contribution | undefined {
  return thing && contribute(thing);
}

/** A block's entry, source and route are to one prefix: its text is there already, and hashed. */
function prefixKeys(block: BlockView | undefined): (row: { readonly prefix: Prefix }) => string {
  let last = block?.prefix;
  let text = block?.key ?? '';
  return ({ prefix }) => {
    if (prefix !== last) {
      last = prefix;
      text = formatPrefix(prefix);
    }
    return text;
  };
}

const peerKey = (peer: Peer) => formatIpv4(peer.address);

/** Lays an origin's rows in place of those that it laid before. */
function exchange<Row>(
  table: LayeredTable<Row>,
  origin: Origin,
  before: readonly Row[],
  after: readonly Row[],
  keyOf: (row: Row) => string,
): void {
  if (before.length) {
    const kept = new Set(after.map(keyOf));
    for (const row of before) if (!kept.has(keyOf(row))) table.remove(keyOf(row), origin);
  }
  for (const row of after) table.put(keyOf(row), origin, row);
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
