/**
 * The management network of a lab with `datastore: etcd`: the members' way to each other, the nodes' to them, and
 * this machine's. It is beside the fabric, so that breaking the fabric never takes the datastore away.
 *
 *     etcd1 eth0 ─┐                     ┌─ mgmt0 node1
 *     etcd2 eth0 ─┤ br-mgmt   (mgmt)    ├─ mgmt0 node2
 *     etcd3 eth0 ─┘    │                └─ …
 *                     host ──── tm-1a2b3c4d, on this machine
 *
 * All labs share the machine, so each has a subnet of its own out of 198.18.0.0/15 (RFC 2544: for tests of networks,
 * nobody routes it); which one is in the lab's record.
 */
import { createHash } from 'node:crypto';
import { FailedError } from '../base/errors.ts';
import { formatIpv4, type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { type Prefix, prefix, prefixesOverlap } from '../ip/prefix.ts';
import { HOST_INTERFACE, type HostPlan, type LinkPlan, link, MACHINE } from './host-plan.ts';
import { MANAGEMENT, MANAGEMENT_RANGE, MEMBERS, type Topology } from './topology.ts';

/** By which a node is in the management network. */
const NODE_INTERFACE = 'mgmt0';
/** This machine's port in the bridge. */
const MACHINE_PORT = 'host';

const SUBNET_LENGTH = 22;
const SUBNETS = 2 ** (SUBNET_LENGTH - MANAGEMENT_RANGE.length);

/** Offsets in the subnet. */
const MACHINE_OFFSET = 1;
const FIRST_MEMBER_OFFSET = 11;
const FIRST_NODE_OFFSET = 21;

/** The first subnet from a place that the lab's name gives, of those that overlap nothing taken. */
export function chooseManagementSubnet(lab: string, taken: readonly Prefix[]): Prefix {
  const first = createHash('sha1').update(lab).digest().readUInt32BE(0);
  for (let i = 0; i < SUBNETS; i++) {
    const offset = ((first + i) % SUBNETS) * 2 ** (32 - SUBNET_LENGTH);
    const subnet = prefix(`${formatIpv4(at(MANAGEMENT_RANGE, offset))}/${SUBNET_LENGTH}`);
    if (!taken.some((other) => prefixesOverlap(other, subnet))) return subnet;
  }
  throw new FailedError(
    'ERR_LAB_MANAGEMENT',
    'no subnet of 198.18.0.0/15 is free on this machine for the lab, each has a route already',
    { hint: 'ip route show table all shows them; take a lab with etcd down, or use datastore: file' },
  );
}

/** This machine's end of its link, by the lab's name alone, so that `down` finds it without a record. */
export function machineDevice(lab: string): string {
  return `tm-${createHash('sha1').update(lab).digest('hex').slice(0, 8)}`;
}

export function machineAddress(subnet: Prefix): string {
  return `${formatIpv4(at(subnet, MACHINE_OFFSET))}/${subnet.length}`;
}

export function memberAddress(subnet: Prefix, member: string): string {
  return formatIpv4(at(subnet, FIRST_MEMBER_OFFSET + MEMBERS.indexOf(member)));
}

/** What the management network adds to the plan of a lab. */
export function planManagement(
  topology: Topology,
  subnet: Prefix,
  bare: (host: string) => HostPlan,
): { hosts: HostPlan[]; links: LinkPlan[]; nodeAddress: (position: number) => readonly [string, string] } {
  const nodes = topology.nodes.map(({ name }) => name);
  return {
    hosts: [
      {
        ...bare(MANAGEMENT),
        bridges: [{ name: 'br-mgmt', ports: [...MEMBERS, ...nodes, MACHINE_PORT], isolated: [] }],
      },
      ...MEMBERS.map((member) => ({
        ...bare(member),
        addresses: [[HOST_INTERFACE, `${memberAddress(subnet, member)}/${subnet.length}`] as const],
      })),
    ],
    links: [
      ...MEMBERS.map((member) => link(member, HOST_INTERFACE, MANAGEMENT, member)),
      ...nodes.map((node) => link(node, NODE_INTERFACE, MANAGEMENT, node)),
      link(MACHINE, machineDevice(topology.name), MANAGEMENT, MACHINE_PORT),
    ],
    nodeAddress: (position) => [
      NODE_INTERFACE,
      `${formatIpv4(at(subnet, FIRST_NODE_OFFSET + position))}/${subnet.length}`,
    ],
  };
}

function at(subnet: Prefix, offset: number): Ipv4 {
  return ipv4FromNumber(subnet.address + offset);
}
