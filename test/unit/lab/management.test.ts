/** Management networks of labs do not meet, and a plan has all that members and nodes need of one. */
import { expect, test } from 'vitest';
import { formatPrefix, type Prefix, prefix, prefixesOverlap } from '../../../src/ip/prefix.ts';
import { MACHINE } from '../../../src/lab/host-plan.ts';
import { chooseManagementSubnet, machineDevice } from '../../../src/lab/management.ts';
import { planLab } from '../../../src/lab/plan.ts';
import { MANAGEMENT_RANGE, parseTopology } from '../../../src/lab/topology.ts';

test('every lab gets a subnet of its own until none is left', () => {
  const taken: Prefix[] = [];
  for (let lab = 0; lab < 128; lab++) {
    const subnet = chooseManagementSubnet(`lab-${lab}`, taken);
    expect(prefixesOverlap(subnet, MANAGEMENT_RANGE)).toBe(true);
    expect(taken.filter((other) => prefixesOverlap(other, subnet))).toEqual([]);
    taken.push(subnet);
  }
  expect(() => chooseManagementSubnet('one-more', taken)).toThrow('no subnet of 198.18.0.0/15 is free');
});

test('a lab gets the same subnet again, and goes out of the way of a route', () => {
  const first = chooseManagementSubnet('two-az', []);
  expect(chooseManagementSubnet('two-az', [])).toEqual(first);
  const route = prefix(`${formatPrefix(first).split('/')[0]}/32`);
  expect(prefixesOverlap(chooseManagementSubnet('two-az', [route]), first)).toBe(false);
});

test('the plan: members, nodes and this machine in one subnet, none of it in the fabric', () => {
  const topology = parseTopology(
    { name: 'm', datastore: 'etcd', zones: { a: { subnet: '10.0.1.0/24' } }, nodes: { n1: { zone: 'a' } } },
    'test',
  );
  const plan = planLab(topology, prefix('198.18.4.0/22'));
  const addressesOf = (name: string) => plan.hosts.find(({ host }) => host === name)?.addresses;
  expect(addressesOf('etcd3')).toEqual([['eth0', '198.18.4.13/22']]);
  expect(addressesOf('n1')).toEqual([
    ['eth0', '10.0.1.11/24'],
    ['mgmt0', '198.18.4.21/22'],
  ]);
  expect(plan.machine).toEqual({ device: machineDevice('m'), address: '198.18.4.1/22' });
  expect(plan.links.filter(({ ends }) => ends.some(({ host }) => host === 'mgmt'))).toHaveLength(5);
  expect(plan.links.filter(({ ends }) => ends.some(({ host }) => host === MACHINE))).toHaveLength(1);
  const bridge = plan.hosts.find(({ host }) => host === 'mgmt')?.bridges[0];
  expect(bridge?.ports).toEqual(['etcd1', 'etcd2', 'etcd3', 'n1', 'host']);
});

test('a device name fits into 15 characters', () => {
  expect(machineDevice('a'.repeat(32)).length).toBeLessThanOrEqual(15);
});
