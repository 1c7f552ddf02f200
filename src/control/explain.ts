/**
 * Why a packet from one address to another goes as it goes: both directions, told from the resources alone. It
 * asks the same functions that the agents decide by.
 */
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { IPV4_HEADER_BYTES } from '../ip/mtu.ts';
import { formatPrefix, type Prefix, prefixContains, prefixOf } from '../ip/prefix.ts';
import type { BlockView, ClusterView, NodeView, PoolView } from './cluster-view.ts';
import { decideEncapsulation, poolOf } from './encapsulation.ts';

/** Whose an address is. */
export interface Endpoint {
  readonly address: Ipv4;
  /** `workload default/w1`, `tunnel address`, `node`, `unused`, `outside`. */
  readonly what: string;
  /** The node that has it; null for addresses outside the cluster. */
  readonly node: string | null;
  readonly block: Prefix | null;
  readonly blockOwner: string | null;
  readonly pool: string | null;
}

export interface Direction {
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** encapsulated, direct, local, outside (leaves the cluster) or unroutable. */
  readonly verdict: 'encapsulated' | 'direct' | 'local' | 'outside' | 'unroutable';
  readonly reason: string;
  /** The kernel's route on the source's node; `eth0` and the router are that node's own business. */
  readonly route: string | null;
  /** Source and destination of the outer header. */
  readonly outer: { readonly source: string; readonly destination: string; readonly protocol: 4 } | null;
  /** Bytes that the outer header takes from the underlay's MTU. */
  readonly overheadBytes: number;
  readonly nat: string;
  readonly sourceCheck: string;
  readonly warnings: readonly string[];
}

export interface Explanation {
  readonly forward: Direction;
  readonly back: Direction;
  /** Set where the two directions take different forms. */
  readonly asymmetry: string | null;
}

export function explain(view: ClusterView, source: Ipv4, destination: Ipv4): Explanation {
  const forward = explainDirection(view, source, destination);
  const back = explainDirection(view, destination, source);
  const forms = new Set([forward.verdict, back.verdict]);
  const differs = forms.has('encapsulated') && forms.has('direct');
  return {
    forward,
    back,
    asymmetry: differs
      ? `one direction is encapsulated and the other is not: strict reverse-path filtering or a stateful fabric drops one of them`
      : null,
  };
}

export function explainDirection(view: ClusterView, from: Ipv4, to: Ipv4): Direction {
  const source = endpointOf(view, from);
  const destination = endpointOf(view, to);
  const sender = source.node === null ? undefined : view.nodes.get(source.node);
  const receiver = destination.node === null ? undefined : view.nodes.get(destination.node);
  const decision = decide(view, source, destination, sender, receiver);
  const outer =
    decision.verdict === 'encapsulated' && sender?.address && receiver?.address
      ? {
          source: formatIpv4(sender.address.address),
          destination: formatIpv4(receiver.address.address),
          protocol: 4 as const,
        }
      : null;
  return {
    source,
    destination,
    ...decision,
    route: routeText(decision.verdict, destination, receiver),
    outer,
    overheadBytes: outer ? IPV4_HEADER_BYTES : 0,
    nat: natOf(view, source, destination, decision.verdict, sender),
    sourceCheck: sourceCheckOf(source, decision.verdict),
  };
}

type Verdict = Pick<Direction, 'verdict' | 'reason' | 'warnings'>;

function decide(
  view: ClusterView,
  source: Endpoint,
  destination: Endpoint,
  sender: NodeView | undefined,
  receiver: NodeView | undefined,
): Verdict {
  if (destination.what === 'node' || destination.what === 'outside')
    return {
      verdict: 'outside',
      reason: 'the destination is in no pool: the host routes it as ever',
      warnings: [],
    };
  if (destination.node === null || !receiver?.address)
    return {
      verdict: 'unroutable',
      reason: `no node with a known address has ${formatIpv4(destination.address)}`,
      warnings: [],
    };
  if (!sender)
    return { verdict: 'outside', reason: 'the source is on no node of this cluster', warnings: [] };
  if (source.node === destination.node)
    return { verdict: 'local', reason: 'both are on one node', warnings: [] };
  const pool = poolWith(view, destination.address);
  if (!pool) return { verdict: 'direct', reason: 'no pool covers the destination', warnings: [] };
  const decision = decideEncapsulation(
    view.modeOn(sender.name, pool),
    sender.address,
    receiver.address.address,
  );
  return {
    verdict: decision.encapsulate ? 'encapsulated' : 'direct',
    reason: decision.reason,
    warnings: decision.warning ? [`${sender.name}: ${decision.warning}`] : [],
  };
}

function poolWith(view: ClusterView, address: Ipv4): PoolView | undefined {
  return poolOf(view.pools.values(), address);
}

function blockWith(view: ClusterView, address: Ipv4): BlockView | undefined {
  // Calico's block sizes; the longest match is the block.
  for (let length = 32; length >= 20; length--) {
    const block = view.blocks.get(formatPrefix(prefixOf(address, length)));
    if (block && prefixContains(block.prefix, address)) return block;
  }
  return undefined;
}

function endpointOf(view: ClusterView, address: Ipv4): Endpoint {
  const block = blockWith(view, address);
  const blockOwner = block ? view.confirmedOwner(block) : null;
  const pool = poolWith(view, address)?.name ?? null;
  const common = { address, block: block?.prefix ?? null, blockOwner, pool };
  const workload = [...view.workloads.values()].find((w) => w.addresses.includes(address));
  if (workload) return { ...common, what: `workload ${workload.name}`, node: workload.node };
  for (const node of view.nodes.values()) {
    if (node.tunnelAddress === address) return { ...common, what: 'tunnel address', node: node.name };
    if (node.address?.address === address) return { ...common, what: 'node', node: node.name };
  }
  const user = block?.allocations.find((a) => a.address === address)?.node;
  if (pool === null) return { ...common, what: 'outside', node: null };
  return { ...common, what: user ? 'allocated' : 'unused', node: user ?? blockOwner };
}

function routeText(
  verdict: Direction['verdict'],
  destination: Endpoint,
  receiver: NodeView | undefined,
): string | null {
  const node = receiver?.address ? formatIpv4(receiver.address.address) : null;
  const borrowed = destination.block === null || destination.blockOwner !== destination.node;
  const to =
    borrowed || !destination.block ? formatIpv4(destination.address) : formatPrefix(destination.block);
  if (verdict === 'encapsulated') return `${to} via ${node} dev tunl0 proto 84 onlink`;
  if (verdict === 'direct') return `${to} via ${node}, or the router towards it, proto 84`;
  if (verdict === 'local')
    return `${formatIpv4(destination.address)} by the host's interface of the workload, proto 84`;
  return null;
}

function natOf(
  view: ClusterView,
  source: Endpoint,
  destination: Endpoint,
  verdict: Direction['verdict'],
  sender: NodeView | undefined,
): string {
  const from = poolWith(view, source.address);
  if (from?.natOutgoing && destination.pool === null && sender?.address)
    return `masqueraded to ${formatIpv4(sender.address.address)}: pool ${from.name} has natOutgoing and the destination is in no pool`;
  if (source.what === 'node' && verdict === 'encapsulated' && typeof sender?.tunnelAddress === 'number')
    return `translated to the tunnel address ${formatIpv4(sender.tunnelAddress)}, so that replies come back by the tunnel`;
  return 'none';
}

function sourceCheckOf(source: Endpoint, verdict: Direction['verdict']): string {
  if (verdict !== 'encapsulated') return 'not asked: only what arrives encapsulated is checked';
  if (source.what === 'unused')
    return `accepted from ${source.node}: it owns the block, though nobody is known to use the address`;
  return `accepted from ${source.node}: the inner source is that node's`;
}
