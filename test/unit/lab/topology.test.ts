import { expect, test } from 'vitest';
import { InvalidError } from '../../../src/base/errors.ts';
import { formatIpv4 } from '../../../src/ip/ipv4.ts';
import { parseTopology } from '../../../src/lab/topology.ts';
import { loadTopology } from '../../../src/lab/topology-file.ts';

const minimal = {
  name: 'tiny',
  zones: { a: { subnet: '10.9.0.0/24' } },
  nodes: { n1: { zone: 'a' }, n2: { zone: 'a', address: '10.9.0.77' }, n3: { zone: 'a' } },
};

function problems(change: object): string {
  try {
    parseTopology({ ...minimal, ...change }, 'file');
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidError);
    return (error as Error).message;
  }
  throw new Error('expected the topology to be refused');
}

test('the built-in topology is DESIGN §8', () => {
  const { topology, manifests } = loadTopology(undefined, undefined);
  expect(topology.name).toBe('two-az');
  expect(topology.nodes.map(({ name, address }) => `${name} ${formatIpv4(address)}`)).toEqual([
    'node1 10.0.1.11',
    'node2 10.0.1.12',
    'node3 10.0.2.11',
    'node4 10.0.2.12',
  ]);
  expect(topology.workloads.map(({ name, node }) => `${name} ${node}`)).toEqual([
    'w1 node1',
    'w2 node2',
    'w3 node3',
    'w4 node4',
  ]);
  expect(topology.fabric).toEqual({ profile: 'vpc', rules: {}, mtu: 1500 });
  expect(manifests[0]?.text).toContain('192.168.0.0/16');
});

test('what is left out comes from the position in the file', () => {
  const topology = parseTopology(minimal, 'file');
  expect(topology.nodes.map(({ address }) => formatIpv4(address))).toEqual([
    '10.9.0.11',
    '10.9.0.77',
    '10.9.0.13',
  ]);
  expect(formatIpv4(topology.zones[0]!.gateway)).toBe('10.9.0.1');
  expect(topology.datastore).toBe('file');
});

test('a node has the flags of all agents, and its own in front of them', () => {
  const topology = parseTopology(
    {
      ...minimal,
      agent: { transport: 'ipip', fastPath: 'off' },
      nodes: { n1: { zone: 'a', agent: { transport: 'udp' } } },
    },
    'file',
  );
  expect(topology.nodes[0]!.agent).toEqual({ transport: 'udp', fastPath: 'off' });
});

test('every problem is told at once, with its path', () => {
  const said = problems({
    zones: { a: { subnet: '10.9.0.1/24' }, b: { subnet: '198.51.100.0/25' } },
    workloads: { w1: { node: 'nowhere' }, n1: { node: 'n1' } },
  });
  expect(said).toContain('zones.a.subnet: expected a prefix without host bits');
  expect(said).toContain('zones.b.subnet: 198.51.100.0/25 overlaps 198.51.100.0/24 of internet');
  expect(said).toContain('workloads.w1.node: there is no node "nowhere"');
  expect(said).toContain('workloads.n1: a node has this name');
});

test.each([
  [{ surprise: 1 }, 'surprise'],
  [{ name: 'Two AZ' }, 'name: expected lower-case letters'],
  [{ fabric: { profile: 'moon' } }, 'fabric.profile: Invalid option: expected one of "l2"|"vpc"|"aws"'],
  [{ fabric: { mtu: 100 } }, 'fabric.mtu'],
  [{ fabric: { rules: { portChecks: 'all' } } }, 'fabric.rules.portChecks: Invalid option'],
  [{ fabric: { rules: { surprise: true } } }, 'fabric.rules'],
  [{ datastore: 'mysql' }, 'datastore: Invalid option'],
  [
    {
      datastore: 'etcd',
      zones: { a: { subnet: '198.18.0.0/24' } },
      nodes: { n: { zone: 'a' } },
      workloads: {},
    },
    'zones.a.subnet: 198.18.0.0/24 overlaps 198.18.0.0/15 of mgmt',
  ],
  [{ workloads: { etcd1: { node: 'n' } } }, 'workloads.etcd1: is reserved for the lab itself'],
  [{ nodes: { router: { zone: 'a' } } }, 'nodes.router: is reserved for the lab itself'],
  [{ zones: { internet: { subnet: '10.9.0.0/24' } } }, 'zones.internet: is reserved for the lab itself'],
  [{ nodes: { 'a-very-long-node-name': { zone: 'a' } } }, 'nodes.a-very-long-node-name'],
  [{ nodes: { n1: { zone: 'z' } } }, 'nodes.n1.zone: there is no zone "z"'],
  [{ nodes: { n1: { zone: 'a', address: '10.9.0.1' } } }, "nodes.n1.address: 10.9.0.1 is the router's"],
  [
    { nodes: { n1: { zone: 'a', address: '10.8.0.9' } } },
    'expected an address of 10.9.0.0/24, got "10.8.0.9"',
  ],
  [{ nodes: { n1: { zone: 'a' }, n2: { zone: 'a', address: '10.9.0.11' } } }, "10.9.0.11 is n1's"],
  [{ zones: { a: { subnet: '10.9.0.0/29' } } }, '10.9.0.0/29 has no address .11: give the node one'],
  [{ nodes: {} }, 'nodes: expected at least one'],
])('refuses %j', (change, expected) => {
  expect(problems(change)).toContain(expected);
});
