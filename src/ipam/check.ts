/**
 * What IPAM's values say against each other. Theory of operation: everything below /calico is read once, then
 * each block is held against its own rules, against the affinities, the pools, the handles and, where they are
 * given, the nodes and the workloads. Every problem is one line that names the key or the address.
 */
import { formatIpv4, type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixContains, prefixesOverlap } from '../ip/prefix.ts';
import {
  allocationsOf,
  blockOwner,
  blockPrefix,
  decodeAffinity,
  decodeBlock,
  decodeHandle,
  decodeIpamConfig,
  TUNNEL_ADDRESS_TYPE,
} from '../model/ipam-values.ts';
import { parseKey } from '../model/keys.ts';
import type {
  IPPool,
  IpamAttributes,
  IpamBlock,
  IpamHandle,
  Kind,
  NodeSpec,
  Resource,
  WorkloadEndpointSpec,
} from '../model/resources.ts';
import { decodeStored } from '../model/stored.ts';
import { blockProblems } from './block.ts';

interface Affinity {
  readonly node: string;
  readonly block: Prefix;
  readonly state: string;
}

/** All that is decoded of the datastore, and what could not be. */
export interface IpamSnapshot {
  readonly blocks: readonly IpamBlock[];
  readonly affinities: readonly Affinity[];
  readonly handles: ReadonlyMap<string, IpamHandle>;
  readonly resources: readonly Resource[];
  readonly unreadable: readonly string[];
}

/** Reads every key and value below /calico. */
export function readSnapshot(values: Iterable<readonly [string, string]>): IpamSnapshot {
  const blocks: IpamBlock[] = [];
  const affinities: Affinity[] = [];
  const handles = new Map<string, IpamHandle>();
  const resources: Resource[] = [];
  const unreadable: string[] = [];
  for (const [key, text] of values) {
    const parsed = parseKey(key);
    const problem = parsed && read(parsed, text);
    if (problem) unreadable.push(`${key}: ${problem}`);
  }
  return { blocks, affinities, handles, resources, unreadable };

  function read(parsed: NonNullable<ReturnType<typeof parseKey>>, text: string): string | undefined {
    switch (parsed.type) {
      case 'block': {
        const decoded = decodeBlock(text);
        if (!decoded.ok) return decoded.problem;
        if (decoded.value.cidr !== formatPrefix(parsed.block)) return `says that it is ${decoded.value.cidr}`;
        blocks.push(decoded.value);
        return undefined;
      }
      case 'affinity': {
        const decoded = decodeAffinity(text);
        if (!decoded.ok) return decoded.problem;
        affinities.push({ node: parsed.node, block: parsed.block, state: decoded.value.state });
        return undefined;
      }
      case 'handle': {
        const decoded = decodeHandle(text);
        if (!decoded.ok) return decoded.problem;
        handles.set(parsed.handle, decoded.value);
        return undefined;
      }
      case 'ipam-config': {
        const decoded = decodeIpamConfig(text);
        return decoded.ok ? undefined : decoded.problem;
      }
      case 'resource': {
        const decoded = decodeStored(parsed.kind, text);
        if (!decoded.ok) return decoded.problem;
        resources.push(decoded.resource);
        return undefined;
      }
    }
  }
}

/** Every problem among blocks, affinities, handles and pools; empty where all is well. */
export function ipamProblems(values: Iterable<readonly [string, string]>): string[] {
  return snapshotProblems(readSnapshot(values));
}

export function snapshotProblems(snapshot: IpamSnapshot): string[] {
  return [
    ...snapshot.unreadable.map((line) => `${line} (it cannot be read)`),
    ...snapshot.blocks.flatMap((block) => blockProblems(block).map((problem) => `${block.cidr}: ${problem}`)),
    ...overlapProblems(snapshot),
    ...affinityProblems(snapshot),
    ...handleProblems(snapshot),
    ...poolProblems(snapshot),
    ...nodeProblems(snapshot),
    ...workloadProblems(snapshot),
  ];
}

function overlapProblems({ blocks }: IpamSnapshot): string[] {
  const sorted = blocks.map(blockPrefix).sort((a, b) => a.address - b.address || a.length - b.length);
  return sorted.flatMap((block, index) => {
    const before = sorted[index - 1];
    return before && prefixesOverlap(before, block)
      ? [`${formatPrefix(block)}: overlaps the block ${formatPrefix(before)}`]
      : [];
  });
}

/** An affinity and a block that do not agree, or an affinity that is not settled. */
export interface StaleAffinity {
  readonly node: string;
  readonly cidr: string;
  readonly why: string;
}

export function staleAffinities({ blocks, affinities }: IpamSnapshot): StaleAffinity[] {
  const owners = new Map(blocks.map((block) => [block.cidr, blockOwner(block)]));
  const claimed = new Set(affinities.map(({ node, block }) => `${node} ${formatPrefix(block)}`));
  const stale = affinities.flatMap(({ node, block, state }) => {
    const cidr = formatPrefix(block);
    const why = disagreement(node, state, owners.has(cidr), owners.get(cidr));
    return why ? [{ node, cidr, why }] : [];
  });
  const missing = [...owners].flatMap(([cidr, node]) =>
    node !== undefined && !claimed.has(`${node} ${cidr}`)
      ? [{ node, cidr, why: `the block is ${node}'s, who has no affinity to it` }]
      : [],
  );
  return [...stale, ...missing];
}

function disagreement(
  node: string,
  state: string,
  isThere: boolean,
  owner: string | undefined,
): string | undefined {
  if (state !== 'confirmed') return `the affinity of ${node} is ${state}, not confirmed`;
  if (!isThere) return `${node} has an affinity to a block that is not there`;
  return owner === node
    ? undefined
    : `${node} has an affinity, but the block is ${owner ? `${owner}'s` : "nobody's"}`;
}

function affinityProblems(snapshot: IpamSnapshot): string[] {
  return staleAffinities(snapshot).map(({ cidr, why }) => `${cidr}: ${why}`);
}

/** A handle that counts other than what the block says that it holds. */
export interface Miscount {
  readonly handle: string;
  readonly cidr: string;
  readonly counts: number;
  readonly holds: number;
}

export function miscounts({ blocks, handles }: IpamSnapshot): Miscount[] {
  const held = new Map<string, Map<string, number>>();
  for (const block of blocks)
    for (const { attributes } of allocationsOf(block)) {
      if (!attributes.handle_id) continue;
      const byBlock = held.get(attributes.handle_id) ?? new Map<string, number>();
      held.set(attributes.handle_id, byBlock.set(block.cidr, (byBlock.get(block.cidr) ?? 0) + 1));
    }
  return [...new Set([...handles.keys(), ...held.keys()])].flatMap((handle) => {
    const counted = handles.get(handle)?.block ?? {};
    const cidrs = new Set([...Object.keys(counted), ...(held.get(handle)?.keys() ?? [])]);
    return [...cidrs].flatMap((cidr) => {
      const [counts, holds] = [counted[cidr] ?? 0, held.get(handle)?.get(cidr) ?? 0];
      return counts === holds ? [] : [{ handle, cidr, counts, holds }];
    });
  });
}

function handleProblems(snapshot: IpamSnapshot): string[] {
  return miscounts(snapshot).map(
    ({ handle, cidr, counts, holds }) =>
      `handle ${handle} counts ${counts} addresses in ${cidr}, where it holds ${holds}`,
  );
}

function ofKind<K extends Kind>(snapshot: IpamSnapshot, kind: K): readonly Resource<K>[] {
  return snapshot.resources.filter((resource): resource is Resource<K> => resource.kind === kind);
}

function poolProblems(snapshot: IpamSnapshot): string[] {
  const pools = (ofKind(snapshot, 'IPPool') as readonly IPPool[]).flatMap(
    ({ spec }) => parsePrefix(spec.cidr) ?? [],
  );
  return snapshot.blocks
    .filter((block) => !pools.some((pool) => prefixContains(pool, blockPrefix(block).address)))
    .map((block) => `${block.cidr}: no pool holds this block`);
}

/** Nodes that own blocks and do not exist. */
export function goneOwners(snapshot: IpamSnapshot): string[] {
  const nodes = new Set(ofKind(snapshot, 'Node').map(({ metadata }) => metadata.name));
  const owners = new Set(snapshot.affinities.map(({ node }) => node));
  return [...owners].filter((node) => !nodes.has(node));
}

function nodeProblems(snapshot: IpamSnapshot): string[] {
  return goneOwners(snapshot).map((node) => `node ${node} has affinities, but there is no such Node`);
}

/** Workloads' addresses inside pools must be allocated, each to one workload. */
function workloadProblems(snapshot: IpamSnapshot): string[] {
  const holders = new Map<Ipv4, string>();
  for (const block of snapshot.blocks)
    for (const { address, attributes } of allocationsOf(block))
      holders.set(address, attributes.handle_id ?? 'no handle');
  const pools = (ofKind(snapshot, 'IPPool') as readonly IPPool[]).flatMap(
    ({ spec }) => parsePrefix(spec.cidr) ?? [],
  );
  const seen = new Map<Ipv4, string>();
  return ofKind(snapshot, 'WorkloadEndpoint').flatMap(({ metadata, spec }) => {
    const { ipNetworks = [] } = spec as { ipNetworks?: readonly string[] };
    return ipNetworks.flatMap((network) => {
      const address = parseIpv4(network.split('/')[0] ?? '');
      if (address === undefined || !pools.some((pool) => prefixContains(pool, address))) return [];
      const other = seen.get(address);
      seen.set(address, metadata.name);
      if (other)
        return [`${formatIpv4(address)} is the address of two workloads: ${other} and ${metadata.name}`];
      return holders.has(address)
        ? []
        : [`${formatIpv4(address)} of workload ${metadata.name} is not allocated`];
    });
  });
}

export interface Leak {
  readonly address: Ipv4;
  readonly handle: string | null;
  readonly why: string;
}

/** Addresses that are allocated to what is not there. */
export function leakedAddresses(snapshot: IpamSnapshot): Leak[] {
  const nodes = new Map(
    ofKind(snapshot, 'Node').map(({ metadata, spec }) => [metadata.name, spec as NodeSpec] as const),
  );
  const workloads = new Set(
    ofKind(snapshot, 'WorkloadEndpoint').flatMap(({ spec }) =>
      ((spec as WorkloadEndpointSpec).ipNetworks ?? []).map((network) => network.split('/')[0]),
    ),
  );
  return snapshot.blocks.flatMap((block) =>
    allocationsOf(block).flatMap(({ address, attributes }): Leak[] => {
      const why = leakOf(formatIpv4(address), attributes, nodes, workloads);
      return why ? [{ address, handle: attributes.handle_id ?? null, why }] : [];
    }),
  );
}

function leakOf(
  address: string,
  { secondary }: IpamAttributes,
  nodes: ReadonlyMap<string, NodeSpec>,
  workloads: ReadonlySet<string | undefined>,
): string | undefined {
  const { node, type, pod } = secondary ?? {};
  if (node !== undefined && !nodes.has(node)) return `there is no Node ${node}`;
  const tunnel = nodes.get(node ?? '')?.bgp?.ipv4IPIPTunnelAddr;
  if (type === TUNNEL_ADDRESS_TYPE && tunnel !== address)
    return `the tunnel address of ${node} is ${tunnel ?? 'not set'}`;
  if (pod !== undefined && !workloads.has(address)) return 'no workload endpoint has it';
  return undefined;
}
