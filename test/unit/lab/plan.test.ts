import { expect, test } from 'vitest';
import { planLinks } from '../../../src/lab/network.ts';
import { hostsFile, planLab } from '../../../src/lab/plan.ts';
import { parseTopology } from '../../../src/lab/topology.ts';

const topology = parseTopology(
  {
    name: 'duo',
    zones: { a: { subnet: '10.0.1.0/24' }, b: { subnet: '10.0.2.0/25' } },
    nodes: { n1: { zone: 'a' }, n2: { zone: 'b' } },
    workloads: { w1: { node: 'n1' } },
  },
  'test',
);

test('namespaces, links, addresses and routes follow from the topology', () => {
  const plan = planLab(topology, null);
  expect(plan.hosts.map(({ namespace }) => namespace)).toEqual([
    'tortie-duo-fabric',
    'tortie-duo-router',
    'tortie-duo-internet',
    'tortie-duo-n1',
    'tortie-duo-n2',
    'tortie-duo-w1',
  ]);
  expect(plan.links.map(({ ends: [a, b] }) => `${a.host}.${a.interface} ${b.host}.${b.interface}`)).toEqual([
    'n1.eth0 fabric.n1',
    'n2.eth0 fabric.n2',
    'router.a fabric.rt-a',
    'router.b fabric.rt-b',
    'router.internet internet.eth0',
  ]);
  const settings = Object.fromEntries(plan.hosts.map((host) => [host.host, [host.addresses, host.routes]]));
  expect(settings).toEqual({
    fabric: [[], []],
    router: [
      [
        ['a', '10.0.1.1/24'],
        ['b', '10.0.2.1/25'],
        ['internet', '198.51.100.1/24'],
      ],
      [],
    ],
    internet: [[['eth0', '198.51.100.10/24']], ['default via 198.51.100.1 dev eth0']],
    n1: [[['eth0', '10.0.1.11/24']], ['default via 10.0.1.1 dev eth0']],
    n2: [[['eth0', '10.0.2.11/25']], ['default via 10.0.2.1 dev eth0']],
    w1: [[], []],
  });
  expect(plan.hosts[0]!.bridges).toEqual([
    { name: 'br-a', ports: ['n1', 'rt-a'], isolated: [] },
    { name: 'br-b', ports: ['n2', 'rt-b'], isolated: [] },
  ]);
});

test('the router of vpc checks sources and destinations, that of l2 nothing', () => {
  const ruleset = (profile: string) =>
    planLab({ ...topology, fabric: { profile: profile as 'l2', rules: {}, mtu: 1500 } }, null).hosts.find(
      ({ host }) => host === 'router',
    )!.ruleset;
  expect(ruleset('l2')).toBeNull();
  expect(ruleset('vpc')).toContain('"a" . 10.0.1.0/24, "b" . 10.0.2.0/25');
  expect(ruleset('vpc')).toContain('elements = { 10.0.1.11, 10.0.2.11, 198.51.100.1, 10.0.1.1, 10.0.2.1 }');
});

test('without a common link nodes have a /32 and meet at the router only', () => {
  const { hosts, mtu } = planLab({ ...topology, fabric: { profile: 'gce', rules: {} } }, null);
  expect(mtu).toBe(1460);
  expect(hosts[0]!.bridges[0]).toEqual({ name: 'br-a', ports: ['n1', 'rt-a'], isolated: ['n1'] });
  const n1 = hosts.find(({ host }) => host === 'n1')!;
  expect(n1.addresses).toEqual([['eth0', '10.0.1.11/32']]);
  expect(n1.routes).toEqual(['10.0.1.1 dev eth0 scope link', 'default via 10.0.1.1 dev eth0']);
});

test('a link with one end left is made anew, a whole one stays', () => {
  const { links } = planLab(topology, null);
  const present = new Map([
    ['n1', new Set(['lo', 'eth0'])],
    ['fabric', new Set(['lo', 'n1', 'n2'])],
  ]);
  const { add, remove } = planLinks(links.slice(0, 2), present);
  expect(add).toEqual([links[1]]);
  expect(remove).toEqual([{ host: 'fabric', interface: 'n2' }]);
});

test('names resolve to nodes, workloads, the router and the internet host', () => {
  expect(hostsFile(topology, new Map([['w1', '192.168.0.1']]))).toBe(
    '127.0.0.1 localhost\n10.0.1.11 n1\n10.0.2.11 n2\n192.168.0.1 w1\n198.51.100.1 router\n198.51.100.10 internet\n',
  );
});
