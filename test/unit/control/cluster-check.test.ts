import { expect, test } from 'vitest';
import { checkCluster } from '../../../src/control/cluster-check.ts';
import { ClusterView } from '../../../src/control/cluster-view.ts';
import { type KeyValue, node, pool } from '../../helpers/cluster.ts';

function check(...values: KeyValue[]) {
  const view = new ClusterView();
  for (const [key, value] of values) view.apply(key, value);
  return checkCluster(view).filter((finding) => finding.level !== 'ok');
}

const POOL = pool('pool', '192.168.0.0/16', 'CrossSubnet');

test('a sound cluster has no findings', () => {
  const nodes = [node('node1', '10.0.1.11/24'), node('node2', '10.0.1.12/24'), node('node3', '10.0.2.11/24')];
  expect(check(POOL, ...nodes)).toEqual([]);
});

test('a /32 is named, with the length of its neighbour in the mending command', () => {
  expect(check(POOL, node('node1', '10.0.1.11/24'), node('node2', '10.0.1.12/32'))).toEqual([
    {
      level: 'fail',
      subject: 'node node2',
      text: '10.0.1.12/32 is a /32: on cross-subnet pools it encapsulates to every node',
      mend: `tortie patch node node2 -p '{"spec":{"bgp":{"ipv4Address":"10.0.1.12/24"}}}'`,
    },
    {
      level: 'fail',
      subject: 'node2 and node1',
      text: '10.0.1.0/24 of node1 holds node2, whose /32 does not hold it: what node1 sends plainly comes back encapsulated',
    },
  ]);
});

test('prefixes of different length in one network: the pair is named', () => {
  const findings = check(POOL, node('node1', '10.0.1.11/16'), node('node2', '10.0.2.12/24'));
  expect(findings).toHaveLength(1);
  expect(findings[0]).toMatchObject({ level: 'fail', subject: 'node1 and node2' });
  expect(findings[0]?.mend).toMatch(/10\.0\.2\.12\/16/);
});

test("a pool over the nodes' own network, and a value that cannot be read", () => {
  const findings = check(pool('pool', '10.0.0.0/8', 'CrossSubnet'), node('node1', '10.0.1.11/24'), [
    '/calico/resources/v3/projectcalico.org/nodes/broken',
    '[]',
  ]);
  expect(findings.map((finding) => finding.level)).toEqual(['warn', 'warn']);
});

test('of many pairs with one /32 some are named and the others counted', () => {
  const neighbours = Array.from({ length: 9 }, (_, i) => node(`node${i + 1}`, `10.0.1.${i + 11}/24`));
  const findings = check(POOL, ...neighbours, node('old', '10.0.1.99/32'));
  expect(findings).toHaveLength(1 + 5 + 1);
  expect(findings.at(-1)?.text).toBe('is so with 4 more nodes of its network');
});
