/** Resources -> what the host is told: the plans of a small cluster, as text. */
import { expect, test } from 'vitest';
import { ClusterView } from '../../../src/control/cluster-view.ts';
import { DesiredState } from '../../../src/control/desired-state.ts';
import { diff, formatPlan, ObservedState } from '../../../src/control/plan.ts';
import { formatRoute, type HostFacts, type HostState } from '../../../src/control/ports.ts';
import { affinity, block, hostFacts, type KeyValue, node, pool, workload } from '../../helpers/cluster.ts';

const SETTINGS = { node: 'node1', device: 'tunl0', mtu: null, transport: 'ipip', udpPort: 5555 } as const;

/** node1 and node2 in one zone, node3 behind the router; a block each, one address of node3's used on node2. */
function cluster(mode: string): KeyValue[] {
  return [
    pool('pool', '192.168.0.0/16', mode),
    node('node1', '10.0.1.11/24', '192.168.10.0'),
    node('node2', '10.0.1.12/24', '192.168.20.0'),
    node('node3', '10.0.2.11/24'),
    block('192.168.10.0/26', 'node1', { 0: 'node1', 1: 'node1' }),
    block('192.168.20.0/26', 'node2', { 0: 'node2' }),
    block('192.168.30.0/26', 'node3', { 1: 'node3', 2: 'node2' }),
    affinity('node1', '192.168.10.0/26'),
    affinity('node2', '192.168.20.0/26'),
    affinity('node3', '192.168.30.0/26'),
    workload('w1', 'node1', 'calif00', '192.168.10.1'),
    workload('w3', 'node3', 'calif00', '192.168.30.1'),
  ];
}

function desiredOf(values: readonly KeyValue[], facts: HostFacts = hostFacts()): DesiredState {
  const view = new ClusterView();
  for (const [key, value] of values) view.apply(key, value);
  return new DesiredState(SETTINGS, view, facts);
}

const routesOf = (desired: DesiredState) => [...desired.host().routes.values()].map(formatRoute).sort();

const LOCAL = ['192.168.10.1 dev calif00 proto 84 scope link', 'blackhole 192.168.10.0/26 proto 84'];

test('Always: every remote block goes into the tunnel, with the node as next hop', () => {
  expect(routesOf(desiredOf(cluster('Always')))).toEqual([
    LOCAL[0],
    '192.168.20.0/26 via 10.0.1.12 dev tunl0 proto 84 onlink',
    '192.168.30.0/26 via 10.0.2.11 dev tunl0 proto 84 onlink',
    '192.168.30.2 via 10.0.1.12 dev tunl0 proto 84 onlink',
    LOCAL[1],
  ]);
});

test('CrossSubnet: plain to nodes inside the local prefix, the tunnel to the others; a borrowed address goes to its user', () => {
  expect(routesOf(desiredOf(cluster('CrossSubnet')))).toEqual([
    LOCAL[0],
    '192.168.20.0/26 via 10.0.1.12 dev eth0 proto 84',
    '192.168.30.0/26 via 10.0.2.11 dev tunl0 proto 84 onlink',
    '192.168.30.2 via 10.0.1.12 dev eth0 proto 84',
    LOCAL[1],
  ]);
});

test('Never: plain everywhere, by the router for a node behind one', () => {
  expect(routesOf(desiredOf(cluster('Never')))).toEqual([
    LOCAL[0],
    '192.168.20.0/26 via 10.0.1.12 dev eth0 proto 84',
    '192.168.30.0/26 via 10.0.1.1 dev eth0 proto 84',
    '192.168.30.2 via 10.0.1.12 dev eth0 proto 84',
    LOCAL[1],
  ]);
});

test('the table holds every remote block, whatever the mode', () => {
  const entries = (mode: string) =>
    desiredOf(cluster(mode))
      .forwarding(1)
      .entries.map((e) => JSON.stringify(e))
      .sort();
  expect(entries('Always')).toHaveLength(3);
  expect(entries('CrossSubnet')).toEqual(entries('Always'));
  expect(entries('Never')).toEqual(entries('Always'));
});

test('a local /32 encapsulates to everyone, and says so', () => {
  const desired = desiredOf([...cluster('CrossSubnet'), node('node1', '10.0.1.11/32')]);
  expect(routesOf(desired)).toContain('192.168.20.0/26 via 10.0.1.12 dev tunl0 proto 84 onlink');
  expect(desired.warnings().join('\n')).toMatch(/this node's prefix is the \/32 of 10\.0\.1\.11/);
});

test('a block whose claim is not settled gets no route, but its used addresses do', () => {
  const desired = desiredOf([...cluster('Always'), affinity('node3', '192.168.30.0/26', 'pending')]);
  expect(routesOf(desired)).toEqual([
    LOCAL[0],
    '192.168.20.0/26 via 10.0.1.12 dev tunl0 proto 84 onlink',
    '192.168.30.1 via 10.0.2.11 dev tunl0 proto 84 onlink',
    '192.168.30.2 via 10.0.1.12 dev tunl0 proto 84 onlink',
    LOCAL[1],
  ]);
});

test('a bad value is skipped and named, the rest goes on', () => {
  const desired = desiredOf([
    ...cluster('Always'),
    ['/calico/resources/v3/projectcalico.org/nodes/node3', '{'],
  ]);
  expect(routesOf(desired)).not.toContain('192.168.30.0/26 via 10.0.2.11 dev tunl0 proto 84 onlink');
  expect(desired.warnings().join('\n')).toMatch(/nodes\/node3 is skipped: expected JSON/);
});

const BARE: HostState = {
  routes: new Map(),
  device: { name: 'tunl0', mtu: 1500, up: false, addresses: [] },
  sysctls: new Map([
    ['net/ipv4/ip_forward', '0'],
    ['net/ipv4/conf/tunl0/rp_filter', '0'],
    ['net/ipv4/conf/eth0/rp_filter', '0'],
    ['net/ipv4/conf/calif00/proxy_arp', '0'],
  ]),
  rules: null,
};

test('the plan for a bare host, and then none', () => {
  const desired = desiredOf(cluster('CrossSubnet'), hostFacts('10.0.1.11/24', true)).host();
  const plan = diff(desired, BARE);
  expect(formatPlan(plan)).toMatchInlineSnapshot(`
    "echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter
    echo 1 > /proc/sys/net/ipv4/conf/calif00/proxy_arp
    ip link set tunl0 mtu 1480
    ip link set tunl0 up
    ip address add 192.168.10.0/32 dev tunl0
    echo 2 > /proc/sys/net/ipv4/conf/tunl0/rp_filter
    nft table ip tortie: pools {192.168.0.0/16} nat {192.168.0.0/16} tunl0 snat 192.168.10.0 drop udp 5555
    ip route replace 192.168.10.1 dev calif00 proto 84 scope link
    ip route replace blackhole 192.168.10.0/26 proto 84
    ip route replace 192.168.20.0/26 via 10.0.1.12 dev eth0 proto 84
    ip route replace 192.168.30.0/26 via 10.0.2.11 dev tunl0 proto 84 onlink
    ip route replace 192.168.30.2 via 10.0.1.12 dev eth0 proto 84
    "
  `);
  const observed = new ObservedState(BARE);
  for (const step of plan) observed.take(step);
  expect(diff(desired, observed)).toEqual([]);
});

test('a mode flip is one replace per route that changes', () => {
  const before = new ObservedState(BARE);
  for (const step of diff(desiredOf(cluster('Always')).host(), BARE)) before.take(step);
  expect(formatPlan(diff(desiredOf(cluster('CrossSubnet')).host(), before))).toMatchInlineSnapshot(`
    "ip route replace 192.168.20.0/26 via 10.0.1.12 dev eth0 proto 84
    ip route replace 192.168.30.2 via 10.0.1.12 dev eth0 proto 84
    "
  `);
});

test('the MTU: set, else Felix for the node, else Felix for all, else the underlay less the header', () => {
  const felix = (name: string, ipipMTU: number): KeyValue => [
    `/calico/resources/v3/projectcalico.org/felixconfigurations/${name}`,
    JSON.stringify({
      kind: 'FelixConfiguration',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name },
      spec: { ipipMTU },
    }),
  ];
  expect(desiredOf(cluster('Always')).device().mtu).toBe(1480);
  expect(desiredOf([...cluster('Always'), felix('default', 1440)]).device().mtu).toBe(1440);
  const both = [...cluster('Always'), felix('default', 1440), felix('node.node1', 1400)];
  expect(desiredOf(both).device().mtu).toBe(1400);
  expect(desiredOf([...cluster('Always'), felix('default', 0)]).device().mtu).toBe(1480);
});
