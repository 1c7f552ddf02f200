/**
 * What each fabric profile lets through, after the clouds that Calico's users meet (docs/lab.md has the
 * table): once as rules that the router and the nodes' ports enforce, and once as the answer that `verify`
 * expects. The two are written side by side so that they can be read against each other; they share only
 * the facts of the table below, since one is there to catch the other.
 */
import { formatIpv4 } from '../ip/ipv4.ts';
import type { Transport } from '../ip/mtu.ts';
import { formatPrefix } from '../ip/prefix.ts';
import {
  type FabricProfile,
  type FabricRules,
  INTERNET,
  INTERNET_GATEWAY,
  INTERNET_SUBNET,
  type Topology,
} from './topology.ts';

export interface FabricFacts extends FabricRules {
  readonly mtu: number;
}

const PROFILES: Readonly<Record<FabricProfile, FabricFacts>> = {
  /** A LAN and a plain router, which drops what it has no route for. */
  l2: { routerChecks: false, portChecks: 'nothing', sharedLink: true, passesProtocol4: true, mtu: 1500 },
  /** A VPC whose instances have the check at their interfaces switched off. */
  vpc: { routerChecks: true, portChecks: 'nothing', sharedLink: true, passesProtocol4: true, mtu: 1500 },
  /** AWS as it comes, with the security group's rule for protocol 4. */
  aws: {
    routerChecks: true,
    portChecks: 'source-and-destination',
    sharedLink: true,
    passesProtocol4: true,
    mtu: 9001,
  },
  /** No common link at all: every frame goes to the gateway, addresses are /32. */
  gce: {
    routerChecks: true,
    portChecks: 'source-and-destination',
    sharedLink: false,
    passesProtocol4: true,
    mtu: 1460,
  },
  /** Never carries protocol 4. */
  azure: {
    routerChecks: true,
    portChecks: 'source-and-destination',
    sharedLink: true,
    passesProtocol4: false,
    mtu: 1500,
  },
  /** Port security knows the port's own address; tenant networks are VXLAN, hence the MTU. */
  openstack: { routerChecks: true, portChecks: 'source', sharedLink: true, passesProtocol4: true, mtu: 1450 },
};

/** The profile's, with the topology's own rules and MTU in front. */
export function fabricFacts({ fabric: { profile, rules, mtu } }: Topology): FabricFacts {
  return { ...PROFILES[profile], ...rules, ...(mtu !== undefined && { mtu }) };
}

/** For people: the profile, and whether rules of the topology's own are in front of it. */
export function fabricName({ fabric: { profile, rules } }: Topology): string {
  return Object.keys(rules).length === 0 ? profile : `${profile} with rules`;
}

/** The nftables table of ours in the router's and the fabric's namespace; nothing else filters there. */
export const FABRIC_TABLE = 'tortie_fabric';

/**
 * The ruleset of the router's namespace, null where the profile needs none. Its interfaces are named after
 * what they lead to: a zone, or `internet`. A VPC's router knows its subnets' own hosts. What does not come
 * from one, or goes neither to one nor out to the internet, is dropped before it is routed.
 */
export function routerRuleset(topology: Topology): string | null {
  if (!fabricFacts(topology).routerChecks) return null;
  const sources = topology.zones.map((zone) => `"${zone.name}" . ${formatPrefix(zone.subnet)}`);
  const gateways = [INTERNET_GATEWAY, ...topology.zones.map((zone) => zone.gateway)];
  const hosts = [...topology.nodes.map((node) => node.address), ...gateways].map(formatIpv4);
  return tableOf(
    'ip',
    `set sources { type ifname . ipv4_addr; flags interval; elements = { ${sources.join(', ')} } }
  set hosts { type ipv4_addr; elements = { ${hosts.join(', ')} } }
  chain check {
    type filter hook prerouting priority filter; policy drop;
    iifname "${INTERNET}" ip daddr @hosts accept
    iifname . ip saddr @sources ip daddr @hosts accept
    iifname . ip saddr @sources ip daddr ${formatPrefix(INTERNET_SUBNET)} accept
    counter comment "source/destination check"
  }`,
  );
}

/** The ruleset of the bridges' namespace: what the cloud enforces at each instance's own interface. */
export function portRuleset(topology: Topology): string | null {
  const { portChecks, passesProtocol4 } = fabricFacts(topology);
  if (portChecks === 'nothing' && passesProtocol4) return null;
  const owners = topology.nodes.map((node) => `"${node.name}" . ${formatIpv4(node.address)}`);
  const ports = topology.nodes.map((node) => `"${node.name}"`);
  const destination = `
    oifname @ports ether type ip oifname . ip daddr != @owners counter drop comment "destination check"`;
  const source = `
    iifname @ports ether type ip iifname . ip saddr != @owners counter drop comment "source check"`;
  const protocol4 = `
    ip protocol 4 counter drop comment "protocol 4"`;
  return tableOf(
    'bridge',
    `set owners { type ifname . ipv4_addr; elements = { ${owners.join(', ')} } }
  set ports { type ifname; elements = { ${ports.join(', ')} } }
  chain from_node {
    type filter hook prerouting priority filter; policy accept;${portChecks === 'nothing' ? '' : source}
  }
  chain to_node {
    type filter hook forward priority filter; policy accept;${portChecks === 'source-and-destination' ? destination : ''}${passesProtocol4 ? '' : protocol4}
  }`,
  );
}

/** The table, in place of what was there before, in one transaction. */
function tableOf(family: string, content: string): string {
  const table = `table ${family} ${FABRIC_TABLE}`;
  return `${table}\ndelete ${table}\n${table} {\n  ${content}\n}\n`;
}

/** What a packet between two nodes looks like to the fabric. */
export interface Crossing {
  /** The transport where outer addresses are the nodes'; plain where they are the workloads' own. */
  readonly form: Transport | 'plain';
  readonly sameZone: boolean;
}

/** Whether the fabric carries a packet from one node to another. */
export function fabricCarries(
  { portChecks, sharedLink, passesProtocol4 }: FabricRules,
  { form, sameZone }: Crossing,
): boolean {
  // From node to node every cloud carries it, unless it knows the protocol and will not.
  if (form !== 'plain') return form === 'udp' || passesProtocol4;
  // Across zones no router knows a workload's address; within one it takes a link and ports that do not look.
  return sameZone && sharedLink && portChecks === 'nothing';
}

/** As whom the internet sees a workload that no node speaks for; nobody out there has a route back to it. */
export function internetSees({ routerChecks, portChecks }: FabricRules): 'nothing' | 'the workload' {
  return routerChecks || portChecks !== 'nothing' ? 'nothing' : 'the workload';
}
