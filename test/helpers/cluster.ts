/** Datastore values as Calico writes them, and a host to plan for; for tests of the control plane. */
import type { HostFacts } from '../../src/control/ports.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { prefix } from '../../src/ip/prefix.ts';
import { affinityKey, blockKey, resourceKey } from '../../src/model/keys.ts';

export type KeyValue = readonly [key: string, value: string];

function resource(kind: string, name: string, spec: object, metadata: object = {}): string {
  return JSON.stringify({
    kind,
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name,
      uid: '0f0e0d0c-0b0a-4908-8706-050403020100',
      creationTimestamp: '2026-11-22T22:36:34Z',
      ...metadata,
    },
    spec,
  });
}

export function pool(name: string, cidr: string, ipipMode: string, natOutgoing = true): KeyValue {
  return [resourceKey('IPPool', name), resource('IPPool', name, { cidr, ipipMode, natOutgoing })];
}

export function node(
  name: string,
  address: string,
  tunnel?: string,
  annotations?: Record<string, string>,
): KeyValue {
  const bgp = { ipv4Address: address, ...(tunnel ? { ipv4IPIPTunnelAddr: tunnel } : {}) };
  return [resourceKey('Node', name), resource('Node', name, { bgp }, annotations ? { annotations } : {})];
}

export function workload(name: string, onNode: string, device: string, address: string): KeyValue {
  const full = `${onNode}-cni-${name}-eth0`;
  const spec = {
    orchestrator: 'cni',
    node: onNode,
    containerID: name,
    endpoint: 'eth0',
    interfaceName: device,
    ipNetworks: [`${address}/32`],
  };
  return [
    resourceKey('WorkloadEndpoint', full, 'default'),
    resource('WorkloadEndpoint', full, spec, { namespace: 'default' }),
  ];
}

/** `given`: ordinal -> node that uses the address. */
export function block(
  cidr: string,
  owner: string | null,
  given: Readonly<Record<number, string>> = {},
): KeyValue {
  const size = 2 ** (32 - Number(cidr.split('/')[1]));
  const nodes = [...new Set(Object.values(given))];
  const allocations = Array.from({ length: size }, (_, i) =>
    given[i] === undefined ? null : nodes.indexOf(given[i]),
  );
  const value = {
    cidr,
    affinity: owner === null ? null : `host:${owner}`,
    allocations,
    unallocated: allocations.flatMap((index, i) => (index === null ? [i] : [])),
    attributes: nodes.map((name) => ({ handle_id: `h-${name}`, secondary: { node: name } })),
    sequenceNumber: 1,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
  return [blockKey(prefix(cidr)), JSON.stringify(value)];
}

export function affinity(owner: string, cidr: string, state = 'confirmed'): KeyValue {
  return [affinityKey(owner, prefix(cidr)), JSON.stringify({ state, deleted: false })];
}

/** node1 of the default lab: eth0 10.0.1.11/24, a router at 10.0.1.1, one workload's interface. */
export function hostFacts(address = '10.0.1.11/24', strict = false): HostFacts {
  const [ip = '', length = '24'] = address.split('/');
  const reversePathFilter = strict ? 1 : 0;
  return {
    links: [
      { name: 'lo', index: 1, mtu: 65536, up: true, kind: '', reversePathFilter: 0 },
      { name: 'eth0', index: 2, mtu: 1500, up: true, kind: 'veth', reversePathFilter },
      { name: 'tunl0', index: 3, mtu: 1480, up: true, kind: 'tun', reversePathFilter: 0 },
      { name: 'calif00', index: 4, mtu: 1480, up: true, kind: 'veth', reversePathFilter: 0 },
    ],
    addresses: [
      { device: 'lo', address: ipv4('127.0.0.1'), length: 8 },
      { device: 'eth0', address: ipv4(ip), length: Number(length) },
    ],
    routes: [
      { prefix: prefix('0.0.0.0/0'), via: ipv4('10.0.1.1'), device: 'eth0', metric: 0 },
      { prefix: prefix('10.0.1.0/24'), via: null, device: 'eth0', metric: 0 },
    ],
  };
}
