import { expect, test } from 'vitest';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { parseInterfaceAddress, prefix } from '../../../src/ip/prefix.ts';
import { expectedNat, expectedPairs, type ResourceFacts } from '../../../src/lab/expected.ts';
import { type FabricProfile, parseTopology } from '../../../src/lab/topology.ts';
import type { EncapsulationMode } from '../../../src/model/resources.ts';

const topology = parseTopology(
  {
    name: 'two',
    zones: { a: { subnet: '10.0.1.0/24' }, b: { subnet: '10.0.2.0/24' } },
    nodes: { n1: { zone: 'a' }, n2: { zone: 'a' }, n3: { zone: 'b' } },
    workloads: { w1: { node: 'n1' }, w1b: { node: 'n1' }, w2: { node: 'n2' }, w3: { node: 'n3' } },
  },
  'test',
);

function facts(mode: EncapsulationMode, change: Partial<Record<string, string>> = {}): ResourceFacts {
  const addresses = { n1: '10.0.1.11/24', n2: '10.0.1.12/24', n3: '10.0.2.11/24', ...change };
  const pool = { cidr: prefix('192.168.0.0/16'), text: '192.168.0.0/16', ipipMode: mode, natOutgoing: true };
  return {
    pools: [pool],
    nodes: new Map(Object.entries(addresses).map(([n, text]) => [n, parseInterfaceAddress(text ?? '')])),
    ipipDisabled: new Set<string>(),
    workloads: new Map([
      ['w1', ipv4('192.168.1.1')],
      ['w1b', ipv4('192.168.1.2')],
      ['w2', ipv4('192.168.2.1')],
      ['w3', ipv4('192.168.3.1')],
    ]),
  };
}

function forms(given: ResourceFacts, profile: FabricProfile = 'vpc'): Record<string, string> {
  const pairs = expectedPairs({ ...topology, fabric: { profile, rules: {}, mtu: 1500 } }, given);
  return Object.fromEntries(
    pairs
      .filter(({ from }) => from.name !== 'w1b')
      .map(({ from, to, expected, answered }) => [
        `${from.name}>${to.name}`,
        `${expected}${answered ? '' : ', no answer'}`,
      ]),
  );
}

test('always: every crossing is encapsulated, one node is local', () => {
  expect(forms(facts('Always'))).toEqual({
    'w1>w1b': 'local',
    'w1>w2': 'encapsulated',
    'w1>w3': 'encapsulated',
    'w2>w1': 'encapsulated',
    'w2>w1b': 'encapsulated',
    'w2>w3': 'encapsulated',
    'w3>w1': 'encapsulated',
    'w3>w1b': 'encapsulated',
    'w3>w2': 'encapsulated',
  });
});

test('ipipEnabled: false on a node: it encapsulates nothing, and the others what they did', () => {
  expect(forms({ ...facts('Always'), ipipDisabled: new Set(['n1']) })).toMatchObject({
    'w1>w2': 'direct',
    'w2>w1': 'encapsulated',
    'w1>w3': 'dropped, no answer',
    'w3>w1': 'encapsulated, no answer',
  });
});

test('of two pools that hold an address the longer one decides', () => {
  const [always] = facts('Always').pools;
  const never = {
    ...always!,
    cidr: prefix('192.168.2.0/24'),
    text: '192.168.2.0/24',
    ipipMode: 'Never' as const,
  };
  expect(forms({ ...facts('Always'), pools: [always!, never] })).toMatchObject({
    'w1>w2': 'direct',
    'w1>w3': 'encapsulated',
  });
});

test('cross-subnet: direct within a zone, encapsulated across', () => {
  expect(forms(facts('CrossSubnet'))).toMatchObject({
    'w1>w2': 'direct',
    'w2>w1': 'direct',
    'w1>w3': 'encapsulated',
    'w3>w1': 'encapsulated',
  });
});

test('never: the router has no way for what crosses zones', () => {
  for (const profile of ['l2', 'vpc'] as const)
    expect(forms(facts('Never'), profile)).toMatchObject({
      'w1>w2': 'direct',
      'w1>w3': 'dropped, no answer',
    });
});

test('a /32: that node encapsulates to its neighbour, the neighbour does not', () => {
  for (const address of ['10.0.1.11/32', '10.0.1.11'])
    expect(forms(facts('CrossSubnet', { n1: address }))).toMatchObject({
      'w1>w2': 'encapsulated',
      'w2>w1': 'direct',
      'w1>w3': 'encapsulated',
    });
});

test('a node without an address cannot be reached by anybody', () => {
  expect(forms(facts('CrossSubnet', { n1: '' }))).toMatchObject({
    'w1>w2': 'encapsulated, no answer',
    'w2>w1': 'dropped, no answer',
    'w2>w3': 'encapsulated',
  });
});

test('a subnet that is too wide sends plain packets to where the fabric drops them, answers included', () => {
  expect(forms(facts('CrossSubnet', { n1: '10.0.1.11/16' }))).toMatchObject({
    'w1>w3': 'dropped, no answer',
    'w3>w1': 'encapsulated, no answer',
  });
});

test('out to the internet the node speaks for the workload; without nat-outgoing nobody is answered', () => {
  const nat = (given: ResourceFacts, profile: FabricProfile) =>
    expectedNat({ ...topology, fabric: { profile, rules: {}, mtu: 1500 } }, given)[0]!;
  expect(nat(facts('Always'), 'vpc')).toMatchObject({ source: ipv4('10.0.1.11'), answered: true });
  const { pools, ...rest } = facts('Always');
  const without = { ...rest, pools: pools.map((pool) => ({ ...pool, natOutgoing: false })) };
  expect(nat(without, 'vpc')).toMatchObject({ source: null, answered: false });
  expect(nat(without, 'l2')).toMatchObject({ source: ipv4('192.168.1.1'), answered: false });
});

test.each([
  ['l2', 'encapsulated', 'direct', 'encapsulated'],
  ['vpc', 'encapsulated', 'direct', 'encapsulated'],
  ['aws', 'encapsulated', 'dropped, no answer', 'encapsulated'],
  ['gce', 'encapsulated', 'dropped, no answer', 'encapsulated'],
  ['openstack', 'encapsulated', 'dropped, no answer', 'encapsulated'],
  ['azure', 'dropped, no answer', 'dropped, no answer', 'dropped, no answer'],
] as const)('%s: always, direct in a zone, cross-subnet across', (profile, always, direct, across) => {
  expect(forms(facts('Always'), profile)['w1>w2']).toBe(always);
  expect(forms(facts('CrossSubnet'), profile)['w1>w2']).toBe(direct);
  expect(forms(facts('CrossSubnet'), profile)['w1>w3']).toBe(across);
});

test('azure carries the udp transport, and nodes without a common transport do not meet', () => {
  const nodes = (transports: readonly ('ipip' | 'udp' | 'auto')[]) =>
    topology.nodes.map((node, position) => ({ ...node, agent: { transport: transports[position] } }));
  const form = (transports: readonly ('ipip' | 'udp' | 'auto')[], profile: FabricProfile) =>
    expectedPairs(
      { ...topology, nodes: nodes(transports), fabric: { profile, rules: {} } },
      facts('Always'),
    ).find(({ from, to }) => from.name === 'w1' && to.name === 'w3')!.expected;
  expect(form(['auto', 'ipip', 'auto'], 'azure')).toBe('encapsulated');
  expect(form(['auto', 'ipip', 'ipip'], 'azure')).toBe('dropped');
  expect(form(['udp', 'ipip', 'ipip'], 'l2')).toBe('dropped');
});
