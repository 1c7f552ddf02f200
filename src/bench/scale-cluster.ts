/** A large cluster as it stands in a datastore: what `scripts/bench scale` puts before one real agent. */
import { formatIpv4, type Ipv4, ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { type Prefix, prefixOf } from '../ip/prefix.ts';
import { encodeAffinity, encodeBlock, encodeHandle, tunnelHandle } from '../model/ipam-values.ts';
import { affinityKey, blockKey, handleKey, resourceKey } from '../model/keys.ts';
import { API_VERSION, type IpamBlock } from '../model/resources.ts';

const BLOCK_ADDRESSES = 64;
const FIRST_BLOCK = ipv4('10.128.0.0');
/** The agent's node is the first, in a zone of its own; all others are behind its router. */
const AGENT_NODE = ipv4('10.0.0.10');
const OTHER_NODES = ipv4('10.1.0.0');
/** UnixNano, as Calico begins to count at. */
const SEQUENCE = 1_735_700_000_000_000_001n;
const USED_ADDRESSES = 2;

export interface ScaleCluster {
  readonly nodes: number;
  readonly blocksPerNode: number;
}

export function nodeName(index: number): string {
  return `node${index + 1}`;
}

export function nodeAddress(index: number): Ipv4 {
  return index === 0 ? AGENT_NODE : ipv4FromNumber(OTHER_NODES + index);
}

/** A node's blocks are no neighbours: IPAM begins to look for a free one at a place of each node's own. */
export function blockOf(cluster: ScaleCluster, node: number, block: number): Prefix {
  return prefixOf(FIRST_BLOCK + (block * cluster.nodes + node) * BLOCK_ADDRESSES, 26);
}

/** A block with a tunnel address (in a node's first) and workloads; `borrower` uses the block's last address. */
export function blockValue(cluster: ScaleCluster, node: number, block: number, borrower?: string): string {
  const name = nodeName(node);
  const owners = Array.from({ length: USED_ADDRESSES }, (_, ordinal) =>
    ordinal === 0 && block === 0
      ? { handle_id: tunnelHandle(name), secondary: { node: name, type: 'ipipTunnelAddress' } }
      : {
          handle_id: `k8s-pod-network.${name}-${block}-${ordinal}`,
          secondary: { namespace: 'default', node: name, pod: `w-${name}-${block}-${ordinal}` },
        },
  );
  const attributes = borrower
    ? [...owners, { handle_id: 'borrowed', secondary: { node: borrower } }]
    : owners;
  const last = BLOCK_ADDRESSES - 1;
  const allocations = Array.from({ length: BLOCK_ADDRESSES }, (_, ordinal) => {
    if (ordinal < USED_ADDRESSES) return ordinal;
    return borrower && ordinal === last ? USED_ADDRESSES : null;
  });
  const value: IpamBlock = {
    cidr: `${formatIpv4(blockOf(cluster, node, block).address)}/26`,
    affinity: `host:${name}`,
    allocations,
    unallocated: allocations.flatMap((index, ordinal) => (index === null ? ordinal : [])),
    attributes,
    sequenceNumber: SEQUENCE,
    sequenceNumberForAllocation: Object.fromEntries(owners.map((_, ordinal) => [String(ordinal), SEQUENCE])),
    deleted: false,
  };
  return encodeBlock(value);
}

function resource(kind: string, name: string, spec: object): string {
  const metadata = {
    name,
    uid: '0f0e0d0c-0b0a-4908-8706-050403020100',
    creationTimestamp: '2026-01-02T03:04:05Z',
  };
  return JSON.stringify({ kind, apiVersion: API_VERSION, metadata, spec });
}

/** Every key and value. */
export function* clusterEntries(cluster: ScaleCluster): Generator<readonly [key: string, value: string]> {
  const ready = { clusterGUID: '0'.repeat(32), datastoreReady: true };
  yield [resourceKey('ClusterInformation', 'default'), resource('ClusterInformation', 'default', ready)];
  const pool = { cidr: '10.128.0.0/9', ipipMode: 'CrossSubnet', natOutgoing: true, blockSize: 26 };
  yield [resourceKey('IPPool', 'pool'), resource('IPPool', 'pool', pool)];
  for (let node = 0; node < cluster.nodes; node++) yield* nodeEntries(cluster, node);
}

function* nodeEntries(cluster: ScaleCluster, node: number): Generator<readonly [key: string, value: string]> {
  const name = nodeName(node);
  const address = `${formatIpv4(nodeAddress(node))}/24`;
  const tunnel = blockOf(cluster, node, 0);
  const bgp = { ipv4Address: address, ipv4IPIPTunnelAddr: formatIpv4(tunnel.address) };
  const spec = { bgp, addresses: [{ address, type: 'CalicoNodeIP' }] };
  yield [resourceKey('Node', name), resource('Node', name, spec)];
  const counts = { [`${formatIpv4(tunnel.address)}/26`]: 1 };
  yield [handleKey(tunnelHandle(name)), encodeHandle({ block: counts, deleted: false })];
  for (let block = 0; block < cluster.blocksPerNode; block++) {
    const prefix = blockOf(cluster, node, block);
    yield [blockKey(prefix), blockValue(cluster, node, block)];
    yield [affinityKey(name, prefix), encodeAffinity({ state: 'confirmed', deleted: false })];
  }
}
