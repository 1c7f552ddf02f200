/**
 * What the resources and the fabric demand of a packet between two workloads. The rules of Calico's page in
 * their plainest form, and on purpose without any code of the agent's: `verify` compares this with what was
 * captured, and an error shared with the agent would go unseen.
 */
import { formatIpv4, type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import type { Transport } from '../ip/mtu.ts';
import { type InterfaceAddress, type Prefix, prefixContains, prefixOf } from '../ip/prefix.ts';
import type { EncapsulationMode } from '../model/resources.ts';
import { fabricCarries, fabricFacts, internetSees } from './fabric.ts';
import { INTERNET_HOST, type LabNode, type LabWorkload, type Topology } from './topology.ts';

/** How a packet crosses, or that it does not. */
export type Form = 'encapsulated' | 'direct' | 'local' | 'dropped';

export interface PoolFacts {
  readonly cidr: Prefix;
  readonly text: string;
  readonly ipipMode: EncapsulationMode;
  readonly natOutgoing: boolean;
}

/** What the datastore holds that matters here. */
export interface ResourceFacts {
  readonly pools: readonly PoolFacts[];
  /** Address and subnet as the Node resource has them; undefined where it names none. */
  readonly nodes: ReadonlyMap<string, InterfaceAddress | undefined>;
  /** Nodes whose FelixConfiguration says `ipipEnabled: false`: they encapsulate nothing, whatever a pool says. */
  readonly ipipDisabled: ReadonlySet<string>;
  /** Workloads of the topology that have an address. */
  readonly workloads: ReadonlyMap<string, Ipv4>;
}

export interface ExpectedPair {
  readonly from: LabWorkload;
  readonly to: LabWorkload;
  readonly fromAddress: Ipv4 | null;
  readonly toAddress: Ipv4 | null;
  /** Whether the fabric has both nodes in one subnet, whatever the resources say. */
  readonly sameSubnet: boolean;
  readonly pool: PoolFacts | null;
  readonly expected: Form;
  /** Whether an answer can come back, too. */
  readonly answered: boolean;
}

export interface ExpectedNat {
  readonly from: LabWorkload;
  readonly fromAddress: Ipv4 | null;
  /** As whom the internet host sees the workload; null where nothing may arrive. */
  readonly source: Ipv4 | null;
  readonly answered: boolean;
}

export function expectedPairs(topology: Topology, facts: ResourceFacts): ExpectedPair[] {
  return topology.workloads.flatMap((from) =>
    topology.workloads
      .filter((to) => to !== from)
      .map((to) => {
        const expected = expectedForm(topology, facts, from, to);
        const back = expectedForm(topology, facts, to, from);
        const toAddress = facts.workloads.get(to.name) ?? null;
        return {
          from,
          to,
          fromAddress: facts.workloads.get(from.name) ?? null,
          toAddress,
          sameSubnet: nodeOf(topology, from).zone === nodeOf(topology, to).zone,
          pool: toAddress === null ? null : poolOf(facts, toAddress),
          expected,
          answered: expected !== 'dropped' && back !== 'dropped',
        };
      }),
  );
}

function expectedForm(topology: Topology, facts: ResourceFacts, from: LabWorkload, to: LabWorkload): Form {
  const destination = facts.workloads.get(to.name);
  if (!facts.workloads.has(from.name) || destination === undefined) return 'dropped';
  if (from.node === to.node) return 'local';
  const remote = facts.nodes.get(to.node);
  if (!remote) return 'dropped'; // nobody can know where the workload is
  const sameZone = nodeOf(topology, from).zone === nodeOf(topology, to).zone;
  const mode = facts.ipipDisabled.has(from.node) ? 'Never' : poolOf(facts, destination)?.ipipMode;
  const wraps = encapsulates(mode ?? 'Never', facts.nodes.get(from.node), remote);
  const transport = commonTransport(nodeOf(topology, from), nodeOf(topology, to));
  if (wraps && !transport) return 'dropped';
  const form = wraps && transport ? transport : 'plain';
  const carried = fabricCarries(fabricFacts(topology), { form, sameZone });
  if (!carried) return 'dropped';
  return wraps ? 'encapsulated' : 'direct';
}

/** UDP to a node that takes it, where ours sends it; protocol 4 where both have it; else nothing fits. */
function commonTransport(from: LabNode, to: LabNode): Transport | null {
  const [sends, takes] = [from.agent.transport ?? 'ipip', to.agent.transport ?? 'ipip'];
  if (sends !== 'ipip' && takes !== 'ipip') return 'udp';
  return sends !== 'udp' && takes !== 'udp' ? 'ipip' : null;
}

/** Calico's page: cross-subnet needs the subnet of the host; without one it is as `always`. */
function encapsulates(
  mode: EncapsulationMode,
  local: InterfaceAddress | undefined,
  remote: InterfaceAddress,
): boolean {
  if (mode !== 'CrossSubnet') return mode === 'Always';
  const subnetKnown = local !== undefined && local.length < 32;
  return !subnetKnown || !prefixContains(prefixOf(local.address, local.length), remote.address);
}

export function expectedNat(topology: Topology, facts: ResourceFacts): ExpectedNat[] {
  return topology.workloads.map((from) => {
    const fromAddress = facts.workloads.get(from.name);
    if (fromAddress === undefined) return { from, fromAddress: null, source: null, answered: false };
    // Only what leaves for an address of no pool at all is translated.
    const translated = poolOf(facts, fromAddress)?.natOutgoing && !poolOf(facts, INTERNET_HOST);
    if (translated) return { from, fromAddress, source: nodeOf(topology, from).address, answered: true };
    const seen = internetSees(fabricFacts(topology)) === 'the workload';
    return { from, fromAddress, source: seen ? fromAddress : null, answered: false };
  });
}

function poolOf(facts: ResourceFacts, address: Ipv4): PoolFacts | null {
  const holding = facts.pools.filter((pool) => prefixContains(pool.cidr, address));
  // Pools may not overlap, but etcd takes what others put into it: the longest decides.
  return holding.sort((a, b) => b.cidr.length - a.cidr.length)[0] ?? null;
}

function nodeOf(topology: Topology, workload: LabWorkload): LabNode {
  return topology.nodes.find((node) => node.name === workload.node)!;
}

/** The address of `10.0.1.11/24`-like text, for messages and tables. */
export function addressText(address: Ipv4 | null): string | null {
  return address === null ? null : formatIpv4(address);
}

/** An address that a resource names, with or without a length. */
export function bareAddress(text: string): Ipv4 | undefined {
  return parseIpv4(text.replace(/\/\d+$/, ''));
}
