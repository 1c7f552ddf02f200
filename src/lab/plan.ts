/**
 * What the machine must hold for a topology: namespaces, links, addresses, routes, settings. Derived from
 * the topology alone, so that two runs want the same and `up` can compare and add what is missing.
 *
 *     node1 eth0 ──── node1 ┐                     ┌ node3 ──── eth0 node3
 *                     br-az-a  (fabric)  br-az-b
 *     node2 eth0 ──── node2 ┘ │                 │ └ node4 ──── eth0 node4
 *                       rt-az-a                 rt-az-b
 *                             │                 │
 *                           az-a   (router)   az-b
 *                                  internet ──── eth0 internet
 *
 * The fabric is a namespace of bridges, one a zone, whose ports carry the nodes' names: there packets are
 * captured as the fabric sees them. Workloads have a namespace; their link is the agent's and IPAM's matter.
 */
import { formatIpv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';
import { fabricFacts, portRuleset, routerRuleset } from './fabric.ts';
import { type BridgePlan, HOST_INTERFACE, type HostPlan, type LinkPlan, link } from './host-plan.ts';
import { machineAddress, machineDevice, planManagement } from './management.ts';
import { namespaceName } from './names.ts';
import {
  FABRIC,
  INTERNET,
  INTERNET_GATEWAY,
  INTERNET_HOST,
  INTERNET_SUBNET,
  ROUTER,
  type Topology,
  type Zone,
} from './topology.ts';

export interface LabPlan {
  readonly mtu: number;
  readonly hosts: readonly HostPlan[];
  readonly links: readonly LinkPlan[];
  /** What this machine gets of the management network. */
  readonly machine: { readonly device: string; readonly address: string } | null;
}

/** No neighbour discovery or router solicitations: what is captured is what was sent on purpose. */
const NO_IPV6 = [
  ['net/ipv6/conf/all/disable_ipv6', '1'],
  ['net/ipv6/conf/default/disable_ipv6', '1'],
] as const;

/** The fabric must not judge sources by its own routes: the profile's rules do, and they are visible. */
const NO_REVERSE_PATH_FILTER = [
  ['net/ipv4/conf/all/rp_filter', '0'],
  ['net/ipv4/conf/default/rp_filter', '0'],
] as const;

/** Where neighbours meet only at the router, it must not tell them of each other. */
const NO_REDIRECTS = [
  ['net/ipv4/conf/all/send_redirects', '0'],
  ['net/ipv4/conf/default/send_redirects', '0'],
] as const;

/** `management` is the subnet of the management network, null without one. */
export function planLab(topology: Topology, management: Prefix | null): LabPlan {
  const { zones, nodes, workloads } = topology;
  const fabric = fabricFacts(topology);
  const bare = (host: string): HostPlan => ({
    host,
    namespace: namespaceName(topology.name, host),
    sysctls: NO_IPV6,
    bridges: [],
    addresses: [],
    routes: [],
    ruleset: null,
  });
  const managed = management && planManagement(topology, management, bare);
  const zoneOf = new Map(zones.map((zone) => [zone.name, zone]));
  return {
    mtu: fabric.mtu,
    hosts: [
      {
        ...bare(FABRIC),
        bridges: zones.map((zone) => bridgePlan(zone, topology, fabric.sharedLink)),
        ruleset: portRuleset(topology),
      },
      { ...bare(ROUTER), ...routerPlan(topology) },
      {
        ...bare(INTERNET),
        addresses: [[HOST_INTERFACE, `${formatIpv4(INTERNET_HOST)}/${INTERNET_SUBNET.length}`]],
        routes: [`default via ${formatIpv4(INTERNET_GATEWAY)} dev ${HOST_INTERFACE}`],
      },
      ...nodes.map((node, position): HostPlan => {
        const zone = zoneOf.get(node.zone)!;
        const gateway = formatIpv4(zone.gateway);
        const length = fabric.sharedLink ? zone.subnet.length : 32;
        return {
          ...bare(node.name),
          addresses: [
            [HOST_INTERFACE, `${formatIpv4(node.address)}/${length}`],
            ...(managed ? [managed.nodeAddress(position)] : []),
          ],
          routes: [
            ...(fabric.sharedLink ? [] : [`${gateway} dev ${HOST_INTERFACE} scope link`]),
            `default via ${gateway} dev ${HOST_INTERFACE}`,
          ],
        };
      }),
      ...workloads.map((workload) => bare(workload.name)),
      ...(managed?.hosts ?? []),
    ],
    links: [
      ...nodes.map((node) => link(node.name, HOST_INTERFACE, FABRIC, node.name)),
      ...zones.map((zone) => link(ROUTER, zone.name, FABRIC, routerPort(zone))),
      link(ROUTER, INTERNET, INTERNET, HOST_INTERFACE),
      ...(managed?.links ?? []),
    ],
    machine: management && {
      device: machineDevice(topology.name),
      address: machineAddress(management),
    },
  };
}

/** The router's port in a zone's bridge. */
export function routerPort(zone: Zone): string {
  return `rt-${zone.name}`;
}

function bridgePlan(zone: Zone, { nodes }: Topology, sharedLink: boolean): BridgePlan {
  const ports = nodes.filter((node) => node.zone === zone.name).map((node) => node.name);
  return {
    name: `br-${zone.name}`,
    ports: [...ports, routerPort(zone)],
    isolated: sharedLink ? [] : ports,
  };
}

function routerPlan(topology: Topology): Pick<HostPlan, 'sysctls' | 'addresses' | 'ruleset'> {
  return {
    sysctls: [...NO_IPV6, ...NO_REVERSE_PATH_FILTER, ...NO_REDIRECTS, ['net/ipv4/ip_forward', '1']],
    addresses: [
      ...topology.zones.map(
        (zone) => [zone.name, `${formatIpv4(zone.gateway)}/${zone.subnet.length}`] as const,
      ),
      [INTERNET, `${formatIpv4(INTERNET_GATEWAY)}/${INTERNET_SUBNET.length}`],
    ],
    ruleset: routerRuleset(topology),
  };
}

/** `/etc/hosts` inside the lab: nodes, what lies beyond, and the workloads that have an address by now. */
export function hostsFile(topology: Topology, workloadAddresses: ReadonlyMap<string, string>): string {
  const lines = [
    '127.0.0.1 localhost',
    ...topology.nodes.map((node) => `${formatIpv4(node.address)} ${node.name}`),
    ...[...workloadAddresses].map(([name, address]) => `${address} ${name}`),
    `${formatIpv4(INTERNET_GATEWAY)} ${ROUTER}`,
    `${formatIpv4(INTERNET_HOST)} ${INTERNET}`,
  ];
  return `${lines.join('\n')}\n`;
}
