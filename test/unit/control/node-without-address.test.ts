/** An applied Node without `bgp`, or a deleted one: the agent keeps what it said last, and says so. */
import { expect, test } from 'vitest';
import { ClusterView, type ViewChange } from '../../../src/control/cluster-view.ts';
import { DesiredState } from '../../../src/control/desired-state.ts';
import { affinity, block, hostFacts, node, pool } from '../../helpers/cluster.ts';

const SETTINGS = { node: 'node1', device: 'tunl0', mtu: null, transport: 'ipip', udpPort: 5555 } as const;

test.each([
  [
    'has no address',
    JSON.stringify({ metadata: { name: 'node1' }, spec: {} }),
    /has no spec\.bgp\.ipv4Address/,
  ],
  ['is gone', undefined, /node1 is gone/],
])('the Node resource %s', (_what, text, expected) => {
  const view = new ClusterView({ workloadsOf: 'node1' });
  const [key, value] = node('node1', '10.0.1.11/24');
  for (const [k, v] of [
    pool('p', '192.168.0.0/16', 'Always', true),
    [key, value] as const,
    node('node2', '10.0.2.11/24'),
    block('192.168.0.0/29', 'node2', {}),
    affinity('node2', '192.168.0.0/29', 'confirmed'),
  ])
    view.apply(k, v);
  const desired = new DesiredState(SETTINGS, view, hostFacts());
  expect(desired.warnings().join()).not.toMatch(expected);
  const route = desired.routes.get('192.168.0.0/29');
  expect(route).toBeDefined();

  const stored =
    text && JSON.stringify({ kind: 'Node', apiVersion: 'projectcalico.org/v3', ...JSON.parse(text) });
  desired.update([view.apply(key, stored) as ViewChange]);
  expect(desired.warnings().join()).toMatch(expected);
  expect(desired.routes.get('192.168.0.0/29')).toEqual(route);
});
