/**
 * What the datastore says about the cluster, decoded as far as forwarding needs it.
 *
 * Fed with a listing and then with changes; gives for each what it touched, so that the desired state can
 * recompute just that. Reading is tolerant: a value that does not decode is remembered as a problem of its
 * key and otherwise treated as absent. Pure: no clock, no I/O.
 */
import { type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import {
  formatPrefix,
  type InterfaceAddress,
  type Prefix,
  parseInterfaceAddress,
  parsePrefix,
} from '../ip/prefix.ts';
import { type ParsedKey, parseKey } from '../model/keys.ts';
import {
  type NodeAddresses,
  type Read,
  readAffinityState,
  readBlockOwners,
  readNodeAddresses,
} from '../model/quick-read.ts';
import type {
  AffinityState,
  EncapsulationMode,
  FelixConfigurationSpec,
  IPPoolSpec,
  Kind,
  Resource,
  WorkloadEndpointSpec,
} from '../model/resources.ts';
import { decodeStored } from '../model/stored.ts';
import type { Entry } from '../store/datastore.ts';

/** The annotation by which a node says that it takes the `udp` transport, and on which port. */
export const UDP_PORT_ANNOTATION = 'tortie/udp-port';
/** By which a node says that it takes nothing else: `udp`. Without it a node takes protocol 4, as every Calico node does. */
export const TRANSPORT_ANNOTATION = 'tortie/transport';

export interface PoolView {
  readonly name: string;
  readonly prefix: Prefix;
  readonly mode: EncapsulationMode;
  readonly natOutgoing: boolean;
}

export interface NodeView {
  readonly name: string;
  /** spec.bgp.ipv4Address with its host bits; null where the node has none. */
  readonly address: InterfaceAddress | null;
  readonly tunnelAddress: Ipv4 | null;
  /** Other addresses of the node (spec.addresses), which it may send from. */
  readonly otherAddresses: readonly Ipv4[];
  /** Where it takes the `udp` transport; null: it does not. */
  readonly udpPort: number | null;
  /** Whether it takes protocol 4. */
  readonly takesIpip: boolean;
}

export interface BlockView {
  /** As formatPrefix gives it. */
  readonly key: string;
  readonly prefix: Prefix;
  /** The node named by the block's affinity; null where it is nobody's. */
  readonly owner: string | null;
  /** Allocated addresses whose attributes name a node. */
  readonly allocations: readonly { readonly address: Ipv4; readonly node: string }[];
}

export interface AffinityView {
  readonly node: string;
  readonly state: AffinityState;
}

export interface WorkloadView {
  /** Of the resource: `node1-cni-w1-eth0`. */
  readonly name: string;
  /** As people call it: the pod's, the container's or the workload's name. */
  readonly shortName: string;
  readonly node: string;
  readonly device: string;
  readonly addresses: readonly Ipv4[];
}

export interface FelixView {
  /** false: no pool is encapsulated, whatever its mode. */
  readonly ipipEnabled: boolean | null;
  readonly ipipMtu: number | null;
  readonly externalNodes: readonly Prefix[] | null;
}

/** What a change of one key touched. */
export type ViewChange =
  | { readonly type: 'pools' | 'felix' | 'cluster' }
  | { readonly type: 'node' | 'block' | 'workload'; readonly key: string };

/** A workload's name begins with its node's, whose dashes are doubled in it. */
function workloadNamePrefix(node: string): string {
  return `${node.replaceAll('-', '--')}-`;
}

export class ClusterView {
  readonly pools = new Map<string, PoolView>();
  readonly nodes = new Map<string, NodeView>();
  /** By formatPrefix. */
  readonly blocks = new Map<string, BlockView>();
  /** By formatPrefix of the block: more than one only while nodes compete for it. */
  readonly affinities = new Map<string, readonly AffinityView[]>();
  /** By datastore key. */
  readonly workloads = new Map<string, WorkloadView>();
  readonly felix = new Map<string, FelixView>();
  /** Values that could not be read: key -> why. */
  readonly problems = new Map<string, string>();
  /** Names of nodes -> prefixes of blocks that they own or have addresses in. */
  readonly blocksOfNode = new Map<string, Set<string>>();
  readonly nodesOfTunnelAddress = new Map<Ipv4, Set<string>>();
  /** ClusterInformation's datastoreReady: false means "hold still". */
  datastoreReady = true;
  readonly #workloadPrefix: string;

  /** `workloadsOf`: leaves out the workloads of all other nodes, of which an agent has no use. */
  constructor({ workloadsOf }: { readonly workloadsOf?: string } = {}) {
    this.#workloadPrefix = workloadsOf === undefined ? '' : workloadNamePrefix(workloadsOf);
  }

  /** Forgets all and reads the listing. */
  resync(entries: readonly Entry[]): void {
    this.begin();
    this.page(entries);
  }

  /** Forgets all; a listing comes, in pages. */
  begin(): void {
    for (const map of this.#maps()) map.clear();
    this.datastoreReady = true;
  }

  page(entries: Iterable<Entry>): void {
    for (const { key, value } of entries) this.apply(key, value);
  }

  /** One key's new value, undefined where it is gone; gives what it touched, if anything that we know. */
  apply(key: string, value: string | undefined): ViewChange | undefined {
    const parsed = parseKey(key);
    if (!parsed) return undefined;
    this.problems.delete(key);
    switch (parsed.type) {
      case 'resource':
        return this.#applyResource(key, parsed, value);
      case 'block':
        return this.#applyBlock(key, formatPrefix(parsed.block), value);
      case 'affinity':
        return this.#applyAffinity(key, parsed.node, formatPrefix(parsed.block), value);
      default:
        return undefined;
    }
  }

  /** What a pool's mode comes to on a node: FelixConfiguration may turn IP-in-IP off. */
  modeOn(node: string, pool: PoolView): EncapsulationMode {
    const enabled =
      this.felix.get(`node.${node}`)?.ipipEnabled ?? this.felix.get('default')?.ipipEnabled ?? true;
    return enabled ? pool.mode : 'Never';
  }

  /** The confirmed owner of a block; blocks whose claim is not settled have none. */
  confirmedOwner(block: BlockView): string | null {
    if (block.owner === null) return null;
    for (const { node, state } of this.affinities.get(block.key) ?? [])
      if (node === block.owner && state === 'confirmed') return node;
    return null;
  }

  #maps(): readonly { clear(): void }[] {
    return [
      this.pools,
      this.nodes,
      this.blocks,
      this.affinities,
      this.workloads,
      this.felix,
      this.problems,
      this.blocksOfNode,
      this.nodesOfTunnelAddress,
    ];
  }

  #applyResource(
    key: string,
    parsed: ParsedKey & { type: 'resource' },
    value: string | undefined,
  ): ViewChange | undefined {
    if (parsed.kind === 'Node') {
      const addresses = this.#read(key, value, readNodeAddresses);
      this.#setNode(parsed.name, addresses && nodeView(parsed.name, addresses));
      return { type: 'node', key: parsed.name };
    }
    if (parsed.kind === 'WorkloadEndpoint' && !parsed.name.startsWith(this.#workloadPrefix)) return undefined;
    const spec = value === undefined ? undefined : this.#decode(key, parsed.kind, value);
    switch (parsed.kind) {
      case 'IPPool':
        this.#set(this.pools, parsed.name, spec && poolView(parsed.name, spec.spec as IPPoolSpec));
        return { type: 'pools' };
      case 'WorkloadEndpoint':
        this.#set(this.workloads, key, spec && workloadView(parsed.name, spec.spec as WorkloadEndpointSpec));
        return { type: 'workload', key };
      case 'FelixConfiguration':
        this.#set(this.felix, parsed.name, spec && felixView(spec.spec as FelixConfigurationSpec));
        return { type: 'felix' };
      case 'ClusterInformation':
        if (parsed.name !== 'default') return undefined;
        this.datastoreReady =
          (spec?.spec as { datastoreReady?: boolean } | undefined)?.datastoreReady !== false;
        return { type: 'cluster' };
      default:
        return undefined;
    }
  }

  #decode(key: string, kind: Kind, value: string): Resource | undefined {
    const decoded = decodeStored(kind, value);
    if (decoded.ok) return decoded.resource;
    this.problems.set(key, decoded.problem);
    return undefined;
  }

  #read<T>(key: string, value: string | undefined, read: (text: string) => Read<T>): T | undefined {
    const result = value === undefined ? undefined : read(value);
    if (result && !result.ok) this.problems.set(key, result.problem);
    return result?.ok ? result.value : undefined;
  }

  #set<V>(map: Map<string, V>, name: string, value: V | undefined): void {
    if (value === undefined) map.delete(name);
    else map.set(name, value);
  }

  #setNode(name: string, node: NodeView | undefined): void {
    const old = this.nodes.get(name)?.tunnelAddress ?? null;
    if (old !== null) removeFromSet(this.nodesOfTunnelAddress, old, name);
    this.#set(this.nodes, name, node);
    if (node && node.tunnelAddress !== null) addToSet(this.nodesOfTunnelAddress, node.tunnelAddress, name);
  }

  #applyBlock(key: string, prefix: string, value: string | undefined): ViewChange {
    const old = this.blocks.get(prefix);
    for (const node of old ? nodesOf(old) : []) removeFromSet(this.blocksOfNode, node, prefix);
    const owners = this.#read(key, value, readBlockOwners);
    const block = owners && !owners.deleted ? { key: prefix, ...owners } : undefined;
    this.#set(this.blocks, prefix, block);
    for (const node of block ? nodesOf(block) : []) addToSet(this.blocksOfNode, node, prefix);
    return { type: 'block', key: prefix };
  }

  #applyAffinity(key: string, node: string, prefix: string, value: string | undefined): ViewChange {
    const others = (this.affinities.get(prefix) ?? []).filter((affinity) => affinity.node !== node);
    const state = this.#read(key, value, readAffinityState);
    const affinities = state ? [...others, { node, state }] : others;
    this.#set(this.affinities, prefix, affinities.length ? affinities : undefined);
    return { type: 'block', key: prefix };
  }
}

function addToSet<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function removeFromSet<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  set?.delete(value);
  if (set?.size === 0) map.delete(key);
}

function nodesOf(block: BlockView): Set<string> {
  const nodes = new Set<string>();
  for (const { node } of block.allocations) nodes.add(node);
  if (block.owner !== null) nodes.add(block.owner);
  return nodes;
}

function poolView(name: string, spec: IPPoolSpec): PoolView | undefined {
  const prefix = parsePrefix(spec.cidr);
  return prefix && { name, prefix, mode: spec.ipipMode, natOutgoing: spec.natOutgoing };
}

function nodeView(name: string, node: NodeAddresses): NodeView {
  const { annotations, ...addresses } = node;
  const udpPort = Number(annotations[UDP_PORT_ANNOTATION] ?? 0);
  const valid = Number.isInteger(udpPort) && udpPort > 0 && udpPort < 65536;
  const takesIpip = !valid || annotations[TRANSPORT_ANNOTATION] !== 'udp';
  return { name, ...addresses, udpPort: valid ? udpPort : null, takesIpip };
}

function workloadView(name: string, spec: WorkloadEndpointSpec): WorkloadView {
  const addresses = (spec.ipNetworks ?? []).map((text) => parseInterfaceAddress(text)?.address);
  return {
    name,
    shortName: spec.pod ?? spec.containerID ?? spec.workload ?? name,
    node: spec.node,
    device: spec.interfaceName,
    addresses: addresses.filter((address) => address !== undefined),
  };
}

function felixView(spec: FelixConfigurationSpec): FelixView {
  const external = spec.externalNodesList?.flatMap((text) => parsePrefix(text) ?? hostOrNothing(text));
  return {
    ipipEnabled: spec.ipipEnabled ?? null,
    ipipMtu: spec.ipipMTU || null,
    externalNodes: external ?? null,
  };
}

function hostOrNothing(text: string): Prefix[] {
  const address = parseIpv4(text);
  return address === undefined ? [] : [{ address, length: 32 }];
}
