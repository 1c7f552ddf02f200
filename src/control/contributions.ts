/**
 * What each thing of the cluster contributes to this node's tables, and why. Pure functions of one thing and
 * of the context that all share; the desired state keeps the contributions and merges them.
 */
import type { ForwardingEntry, Peer, SourceEntry } from '../fib/forwarding-config.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import {
  formatPrefix,
  hostPrefix,
  type InterfaceAddress,
  type Prefix,
  prefixContains,
} from '../ip/prefix.ts';
import type { BlockView, ClusterView, NodeView, PoolView, WorkloadView } from './cluster-view.ts';
import { isEncapsulated, poolOf, subnetWarning } from './encapsulation.ts';
import type { HostRoute } from './ports.ts';
import type { Underlay } from './underlay.ts';

/** What the operator fixed for this agent. */
export interface NodeSettings {
  readonly node: string;
  readonly device: string;
  readonly mtu: number | null;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly udpPort: number;
}

export interface Context {
  readonly settings: NodeSettings;
  readonly view: ClusterView;
  readonly underlay: Underlay;
  /** This node's address and prefix length; null while it has none. */
  readonly self: InterfaceAddress | null;
  readonly tunnelAddress: Ipv4 | null;
  /** One list per node that leads to it alone: its blocks share it. */
  readonly hops: Map<Ipv4, readonly Ipv4[]>;
}

export interface Contribution {
  readonly entries: readonly ForwardingEntry[];
  readonly sources: readonly SourceEntry[];
  readonly routes: readonly HostRoute[];
  readonly peers: readonly Peer[];
  /** Path below /proc/sys and value. */
  readonly sysctls: readonly (readonly [string, string])[];
  readonly warnings: readonly string[];
}

/** A contribution that is being put together. */
type Draft = { -readonly [Part in keyof Contribution]: Contribution[Part][number][] };

const NONE: readonly never[] = Object.freeze([]);

function emptyDraft(): Draft {
  return { entries: [], sources: [], routes: [], peers: [], sysctls: [], warnings: [] };
}

/**
 * Tens of thousands of contributions are kept, and most parts of them are empty: those share one list. The others
 * are copied to their length: a list that grew by `push` has room for 17, which was 15 MB before 20,000 blocks.
 */
function finished(draft: Draft): Contribution {
  const kept = <T>(list: readonly T[]) => (list.length ? list.slice() : NONE);
  return {
    entries: kept(draft.entries),
    sources: kept(draft.sources),
    routes: kept(draft.routes),
    peers: kept(draft.peers),
    sysctls: kept(draft.sysctls),
    warnings: kept(draft.warnings),
  };
}

function hopsTo(context: Context, address: Ipv4): readonly Ipv4[] {
  let hops = context.hops.get(address);
  if (!hops) {
    hops = Object.freeze([address]);
    context.hops.set(address, hops);
  }
  return hops;
}

/** The node itself: its addresses are nobody else's to send from, its device and forwarding are set up. */
export function selfContribution(context: Context): Contribution {
  const { settings, underlay, self, tunnelAddress } = context;
  const result = emptyDraft();
  const own = new Set<Ipv4>(underlay.addresses.map((a) => a.address));
  if (self) own.add(self.address);
  if (tunnelAddress !== null) own.add(tunnelAddress);
  for (const address of own)
    if (address >>> 24 !== 127) result.sources.push({ prefix: hostPrefix(address), owners: 'local' });
  result.sysctls.push(
    ['net/ipv4/ip_forward', '1'],
    [reversePathFilterOf(settings.device), tunnelAddress === null ? '0' : '2'],
    [`net/ipv6/conf/${settings.device}/disable_ipv6`, '1'],
  );
  const device = self && underlay.deviceOf(self.address);
  if (self && !device)
    result.warnings.push(
      `Unable to confirm IPv4 address ${formatIpv4(self.address)} is assigned to this host`,
    );
  if (device) loosen(result, underlay, device);
  return finished(result);
}

/**
 * Loose, since the way back may be plain; but even loose filtering drops all that comes in by a device without an
 * address and would go back by another (docs/adr/0006), so without a tunnel address there is none.
 */
export function reversePathFilterOf(device: string): string {
  return `net/ipv4/conf/${device}/rp_filter`;
}

/** A pool whose block has no owner yet may be sent from by every known node. */
export function poolContribution(pool: PoolView): Contribution {
  const result = emptyDraft();
  result.sources.push({ prefix: pool.prefix, owners: 'any-peer' });
  return finished(result);
}

/** Another node: a peer, the sources it may send from, and its tunnel address where no block of its own covers that. */
export function nodeContribution(context: Context, node: NodeView): Contribution {
  const result = emptyDraft();
  const { settings, self, underlay, view } = context;
  if (node.name === settings.node || !node.address) return finished(result);
  const address = node.address.address;
  if (self?.address === address) {
    result.warnings.push(`node ${node.name} has this node's address ${formatIpv4(address)}`);
    return finished(result);
  }
  const way = underlay.routeTo(address);
  if (!way) result.warnings.push(`the host has no route to node ${node.name} at ${formatIpv4(address)}`);
  else loosen(result, underlay, way.device);
  const speech = transportTo(settings, node);
  if (speech.transport === 'none') result.warnings.push(noTransport(settings, node));
  result.peers.push({
    address,
    ...speech,
    mtu: way?.mtu ?? underlay.mtuOf(''),
  });
  const own = new Set([address, ...node.otherAddresses]);
  for (const source of own)
    result.sources.push({ prefix: hostPrefix(source), owners: hopsTo(context, address) });
  if (node.tunnelAddress !== null) {
    const prefix = hostPrefix(node.tunnelAddress);
    result.sources.push({ prefix, owners: hopsTo(context, address) });
    if (!isInOwnBlock(view, node, node.tunnelAddress)) addRemote(result, context, prefix, node.name);
  }
  return finished(result);
}

function transportTo(settings: NodeSettings, node: NodeView): Pick<Peer, 'transport' | 'udpPort'> {
  if (settings.transport !== 'ipip' && node.udpPort !== null)
    return { transport: 'udp', udpPort: node.udpPort };
  const common = settings.transport !== 'udp' && node.takesIpip;
  return { transport: common ? 'ipip' : 'none', udpPort: 0 };
}

function noTransport(settings: NodeSettings, node: NodeView): string {
  const [ours, theirs] = settings.transport === 'udp' ? ['udp', 'ipip'] : ['ipip', 'udp'];
  return (
    `no transport in common with node ${node.name}: this node speaks ${ours} only, that one ${theirs} only; ` +
    'what is encapsulated for it is dropped. Start one of the two with --transport auto'
  );
}

function isInOwnBlock(view: ClusterView, node: NodeView, address: Ipv4): boolean {
  for (const prefix of view.blocksOfNode.get(node.name) ?? []) {
    const block = view.blocks.get(prefix);
    if (block && prefixContains(block.prefix, address)) return view.confirmedOwner(block) === node.name;
  }
  return false;
}

/** A block: to its owner, with a /32 for each address that is used elsewhere. */
export function blockContribution(context: Context, block: BlockView): Contribution {
  const result = emptyDraft();
  const me = context.settings.node;
  const owner = context.view.confirmedOwner(block);
  // Our own block is ours in every state of its affinity: what nobody uses in it must not loop by a default route.
  if (block.owner === me) {
    result.sources.push({ prefix: block.prefix, owners: 'local' });
    if (block.prefix.length < 32) result.routes.push({ type: 'blackhole', prefix: block.prefix });
  } else if (owner !== null) {
    addRemote(result, context, block.prefix, owner);
    addSource(result, context, block.prefix, owner);
  }
  for (const { address, node } of block.allocations) {
    if (node === (block.owner === me ? me : owner)) continue;
    const prefix = hostPrefix(address);
    if (node === me) result.sources.push({ prefix, owners: 'local' });
    else {
      addRemote(result, context, prefix, node);
      addSource(result, context, prefix, node);
    }
  }
  return finished(result);
}

/** A workload of this node: its host route, once its interface is there. */
export function workloadContribution(context: Context, workload: WorkloadView): Contribution {
  const result = emptyDraft();
  const { settings, underlay } = context;
  if (workload.node !== settings.node) return finished(result);
  for (const address of workload.addresses)
    result.sources.push({ prefix: hostPrefix(address), owners: 'local' });
  if (!underlay.hasLink(workload.device)) return finished(result);
  for (const address of workload.addresses)
    result.routes.push({ type: 'workload', prefix: hostPrefix(address), device: workload.device });
  const conf = `net/ipv4/conf/${workload.device}`;
  result.sysctls.push(
    [`${conf}/proxy_arp`, '1'],
    [`${conf}/rp_filter`, '1'],
    [`${conf}/forwarding`, '1'],
    // Answer at once: the host is not one of several proxies that must not speak at the same time.
    [`net/ipv4/neigh/${workload.device}/proxy_delay`, '0'],
  );
  return finished(result);
}

function addSource(result: Draft, context: Context, prefix: Prefix, owner: string): void {
  const node = context.view.nodes.get(owner);
  if (node?.address) result.sources.push({ prefix, owners: hopsTo(context, node.address.address) });
}

/** The table entry, always; and the kernel route that brings the packet to the table or past it. */
function addRemote(result: Draft, context: Context, prefix: Prefix, nodeName: string): void {
  const remote = context.view.nodes.get(nodeName)?.address?.address;
  if (remote === undefined) {
    result.warnings.push(`${formatPrefix(prefix)} belongs to node ${nodeName}, which has no known address`);
    return;
  }
  if (remote === context.self?.address) return;
  result.entries.push({ prefix, nextHops: hopsTo(context, remote) });
  const route = routeTo(result, context, prefix, remote);
  if (route) result.routes.push(route);
}

function routeTo(result: Draft, context: Context, prefix: Prefix, remote: Ipv4): HostRoute | undefined {
  const pool = poolOf(context.view.pools.values(), prefix.address);
  // Calico's export filter: what no pool covers is not encapsulated.
  const mode = pool ? context.view.modeOn(context.settings.node, pool) : 'Never';
  if (isEncapsulated(mode, context.self, remote)) {
    const warning = mode === 'CrossSubnet' ? subnetWarning(context.self) : undefined;
    if (warning) result.warnings.push(warning);
    return { type: 'encapsulated', prefix, via: remote, device: context.settings.device };
  }
  const way = context.underlay.routeTo(remote);
  // Without a way to the node nothing can be said plainly; the node's own contribution warns.
  return way && { type: 'plain', prefix, via: way.via ?? remote, device: way.device };
}

/** Replies may come plain where we encapsulate: strict filtering would drop them. */
function loosen(result: Draft, underlay: Underlay, device: string): void {
  if (underlay.isStrict(device)) result.sysctls.push([`net/ipv4/conf/${device}/rp_filter`, '2']);
}
