import { expect, test } from 'vitest';
import { ClusterView } from '../../../src/control/cluster-view.ts';
import { explain } from '../../../src/control/explain.ts';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { affinity, block, type KeyValue, node, pool, workload } from '../../helpers/cluster.ts';

function viewOf(...values: KeyValue[]): ClusterView {
  const view = new ClusterView();
  for (const [key, value] of values) view.apply(key, value);
  return view;
}

const CLUSTER: readonly KeyValue[] = [
  pool('pool', '192.168.0.0/16', 'CrossSubnet'),
  node('node1', '10.0.1.11/24', '192.168.10.0'),
  node('node2', '10.0.1.12/24'),
  node('node3', '10.0.2.11/24'),
  block('192.168.10.0/26', 'node1', { 0: 'node1', 1: 'node1' }),
  block('192.168.20.0/26', 'node2', { 1: 'node2', 5: 'node3' }),
  block('192.168.30.0/26', 'node3', { 1: 'node3' }),
  affinity('node1', '192.168.10.0/26'),
  affinity('node2', '192.168.20.0/26'),
  affinity('node3', '192.168.30.0/26'),
  workload('w1', 'node1', 'calif00', '192.168.10.1'),
];

const between = (a: string, b: string, ...more: KeyValue[]) =>
  explain(viewOf(...CLUSTER, ...more), ipv4(a), ipv4(b));

test('inside the subnet direct, outside it encapsulated, with the outer header', () => {
  const near = between('192.168.10.1', '192.168.20.1');
  expect([near.forward.verdict, near.back.verdict, near.asymmetry]).toEqual(['direct', 'direct', null]);
  const far = between('192.168.10.1', '192.168.30.1');
  expect(far.forward.verdict).toBe('encapsulated');
  expect(far.forward.outer).toEqual({ source: '10.0.1.11', destination: '10.0.2.11', protocol: 4 });
  expect(far.forward.reason).toMatch(/10\.0\.1\.0\/24 does not contain 10\.0\.2\.11/);
  expect(far.forward.route).toBe('192.168.30.0/26 via 10.0.2.11 dev tunl0 proto 84 onlink');
});

test('a /32 on one side: the two directions differ, and it says so', () => {
  const { forward, back, asymmetry } = between('192.168.10.1', '192.168.20.1', node('node2', '10.0.1.12/32'));
  expect([forward.verdict, back.verdict]).toEqual(['direct', 'encapsulated']);
  expect(asymmetry).toMatch(/one direction is encapsulated/);
  expect(back.warnings.join()).toMatch(/node2: this node's prefix is the \/32/);
});

test('a borrowed address goes to the node that uses it, by a /32', () => {
  const { forward } = between('192.168.10.1', '192.168.20.5');
  expect(forward.destination.node).toBe('node3');
  expect(forward.route).toBe('192.168.20.5 via 10.0.2.11 dev tunl0 proto 84 onlink');
});

test('NAT: masquerade outside the pools, the tunnel address for the host, nothing between workloads', () => {
  expect(between('192.168.10.1', '198.51.100.10').forward.nat).toMatch(/^masqueraded to 10\.0\.1\.11/);
  expect(between('10.0.1.11', '192.168.30.1').forward.nat).toMatch(/tunnel address 192\.168\.10\.0/);
  expect(between('192.168.10.1', '192.168.30.1').forward.nat).toBe('none');
});

test('local, unroutable and outside are told apart', () => {
  expect(between('192.168.10.1', '192.168.10.0').forward.verdict).toBe('local');
  expect(between('192.168.10.1', '192.168.200.1').forward.verdict).toBe('unroutable');
  expect(between('192.168.10.1', '8.8.8.8').forward.verdict).toBe('outside');
});
