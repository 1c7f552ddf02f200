/**
 * Whether cross-subnet would do what one expects on this cluster, node by node and pair by pair, with the command
 * that mends what would not. Pure: from the resources alone.
 */
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix, prefixContains, prefixOf } from '../ip/prefix.ts';
import type { ClusterView, NodeView } from './cluster-view.ts';

export interface Finding {
  /** `fail`: cross-subnet would misbehave, or the node is unreachable; `warn`: worth knowing. */
  readonly level: 'ok' | 'warn' | 'fail';
  readonly subject: string;
  readonly text: string;
  /** The command that mends it. */
  readonly mend?: string;
}

/** `lengthHere`: the prefix length that an interface of this host has for an address, where it has it. */
export function checkCluster(
  view: ClusterView,
  lengthHere: (address: Ipv4) => number | undefined = () => undefined,
): Finding[] {
  const nodes = [...view.nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return [
    ...nodes.map((node) => checkNode(node, nodes, lengthHere)),
    ...checkPairsWithoutSubnet(nodes),
    ...checkPairs(nodes),
    ...checkTransports(nodes),
    ...checkPools(view, nodes),
    ...[...view.problems].map(
      ([key, problem]): Finding => ({
        level: 'warn',
        subject: key,
        text: `cannot be read and is skipped: ${problem}`,
      }),
    ),
  ];
}

function checkNode(
  node: NodeView,
  nodes: readonly NodeView[],
  lengthHere: (address: Ipv4) => number | undefined,
): Finding {
  const subject = `node ${node.name}`;
  if (!node.address)
    return {
      level: 'fail',
      subject,
      text: 'has no spec.bgp.ipv4Address: no other node can send to it',
      mend: `start its agent (tortie node run --name ${node.name}), or ${patch(node.name, 'ADDRESS/LENGTH')}`,
    };
  if (node.address.length < 32) return { level: 'ok', subject, text: formatPrefix(node.address) };
  const length = lengthHere(node.address.address) ?? lengthByNeighbour(node, nodes);
  const address = `${formatIpv4(node.address.address)}/${length ?? 'LENGTH'}`;
  return {
    level: 'fail',
    subject,
    text: `${formatPrefix(node.address)} is a /32: on cross-subnet pools it encapsulates to every node`,
    mend: patch(node.name, address),
  };
}

/** The length of the narrowest prefix of another node that holds the address: nodes of one subnet agree. */
function lengthByNeighbour(node: NodeView, nodes: readonly NodeView[]): number | undefined {
  const lengths = nodes
    .filter((other) => other !== node && other.address && other.address.length < 32)
    .map((other) => subnetOf(other)!)
    .filter((subnet) => prefixContains(subnet, node.address!.address))
    .map((subnet) => subnet.length);
  return lengths.length ? Math.max(...lengths) : undefined;
}

function subnetOf(node: NodeView): Prefix | undefined {
  return node.address ? prefixOf(node.address.address, node.address.length) : undefined;
}

function patch(node: string, address: string): string {
  return `tortie patch node ${node} -p '{"spec":{"bgp":{"ipv4Address":"${address}"}}}'`;
}

/** Of one node's pairs so many are named; the mending command is the same for all. */
const PAIRS_NAMED = 5;

/** A /32 and whoever sees it in the own subnet: one direction would be plain, the other encapsulated. */
function checkPairsWithoutSubnet(nodes: readonly NodeView[]): Finding[] {
  return nodes
    .filter((node) => node.address?.length === 32)
    .flatMap((node): Finding[] => {
      const neighbours = nodes.filter(
        (other) =>
          other.address &&
          other.address.length < 32 &&
          prefixContains(subnetOf(other)!, node.address!.address),
      );
      const more = neighbours.length - PAIRS_NAMED;
      const named = neighbours.slice(0, PAIRS_NAMED).map(
        (other): Finding => ({
          level: 'fail',
          subject: `${node.name} and ${other.name}`,
          text: `${formatPrefix(subnetOf(other)!)} of ${other.name} holds ${node.name}, whose /32 does not hold it: what ${other.name} sends plainly comes back encapsulated`,
        }),
      );
      const rest: Finding = {
        level: 'fail',
        subject: node.name,
        text: `is so with ${more} more nodes of its network`,
      };
      return more > 0 ? [...named, rest] : named;
    });
}

/** Pairs of which one sees the other in its subnet and not the reverse. /32s have been reported already. */
function checkPairs(nodes: readonly NodeView[]): Finding[] {
  const subnets = new Map<string, { subnet: Prefix; nodes: NodeView[] }>();
  for (const node of nodes) {
    const subnet = node.address && node.address.length < 32 ? subnetOf(node) : undefined;
    if (!subnet) continue;
    const known = subnets.get(formatPrefix(subnet));
    if (known) known.nodes.push(node);
    else subnets.set(formatPrefix(subnet), { subnet, nodes: [node] });
  }
  const findings: Finding[] = [];
  for (const a of subnets.values())
    for (const b of subnets.values()) {
      if (a.subnet.length >= b.subnet.length) continue;
      // a is wider: nodes of b lie in it, but a's nodes outside b's narrower prefix are foreign to b's.
      const inside = b.nodes.filter((node) => prefixContains(a.subnet, node.address!.address));
      const foreign = a.nodes.filter((node) => !prefixContains(b.subnet, node.address!.address));
      if (inside.length && foreign.length)
        findings.push({
          level: 'fail',
          subject: `${foreign[0]!.name} and ${inside[0]!.name}`,
          text: `${formatPrefix(a.subnet)} of ${foreign[0]!.name} holds ${inside[0]!.name}, whose ${formatPrefix(b.subnet)} does not hold it: one direction would be encapsulated, the other not`,
          mend: patch(inside[0]!.name, `${formatIpv4(inside[0]!.address!.address)}/${a.subnet.length}`),
        });
    }
  return findings;
}

/** Nodes that take UDP only, and nodes that send protocol 4 only: what is encapsulated between them is dropped. */
function checkTransports(nodes: readonly NodeView[]): Finding[] {
  const udpOnly = nodes.filter((node) => !node.takesIpip);
  const ipipOnly = nodes.filter((node) => node.udpPort === null && node.address);
  return udpOnly.flatMap((udp) =>
    ipipOnly.map((ipip) => ({
      level: 'fail',
      subject: `${udp.name} and ${ipip.name}`,
      text: `have no transport in common: ${udp.name} speaks udp only, ${ipip.name} ipip only; what is encapsulated between them is dropped`,
      mend: `start the agent of ${udp.name} with --transport auto (tortie node run --name ${udp.name} --transport auto)`,
    })),
  );
}

/** A pool that holds the nodes' own network: what goes there is never masqueraded, and routes get in each other's way. */
function checkPools(view: ClusterView, nodes: readonly NodeView[]): Finding[] {
  return [...view.pools.values()].flatMap((pool): Finding[] => {
    const inside = nodes.find((node) => node.address && prefixContains(pool.prefix, node.address.address));
    return inside
      ? [
          {
            level: 'warn',
            subject: `pool ${pool.name}`,
            text: `${formatPrefix(pool.prefix)} holds the address of node ${inside.name}: traffic of workloads to the nodes' network is not translated`,
          },
        ]
      : [];
  });
}
