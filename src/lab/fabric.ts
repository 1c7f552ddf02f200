/**
 * What each fabric profile lets through: once as the rules that the router enforces, and once as the answer
 * that `verify` expects. The two are written side by side so that they can be read against each other; they
 * share no code, since one is there to catch the other (docs/lab.md has the table of profiles).
 */
import { assertNever } from '../base/errors.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { formatPrefix } from '../ip/prefix.ts';
import {
  type FabricProfile,
  INTERNET,
  INTERNET_GATEWAY,
  INTERNET_SUBNET,
  type Topology,
} from './topology.ts';

/** The router's nftables table; nothing else in its namespace filters. */
export const FABRIC_TABLE = 'tortie_fabric';

/**
 * The ruleset of the router's namespace, null where the profile needs none. Its interfaces are named after
 * what they lead to: a zone, or `internet`.
 */
export function routerRuleset(topology: Topology): string | null {
  switch (topology.fabric.profile) {
    case 'l2':
      // A LAN and a plain router: it drops what it has no route for, and nothing else.
      return null;
    case 'vpc':
      return sourceDestinationCheck(topology);
    default:
      return assertNever(topology.fabric.profile, 'fabric profile');
  }
}

/**
 * A VPC's router knows its subnets' own hosts. What does not come from one, or goes neither to one nor out
 * to the internet, is dropped before it is routed; whatever an allowed packet carries passes, protocol 4 too.
 */
function sourceDestinationCheck(topology: Topology): string {
  const sources = topology.zones.map((zone) => `"${zone.name}" . ${formatPrefix(zone.subnet)}`);
  const gateways = [INTERNET_GATEWAY, ...topology.zones.map((zone) => zone.gateway)];
  const hosts = [...topology.nodes.map((node) => node.address), ...gateways].map(formatIpv4);
  return `table ip ${FABRIC_TABLE}
delete table ip ${FABRIC_TABLE}
table ip ${FABRIC_TABLE} {
  set sources { type ifname . ipv4_addr; flags interval; elements = { ${sources.join(', ')} } }
  set hosts { type ipv4_addr; elements = { ${hosts.join(', ')} } }
  chain check {
    type filter hook prerouting priority filter; policy drop;
    iifname "${INTERNET}" ip daddr @hosts accept
    iifname . ip saddr @sources ip daddr @hosts accept
    iifname . ip saddr @sources ip daddr ${formatPrefix(INTERNET_SUBNET)} accept
    counter comment "source/destination check"
  }
}
`;
}

/** What a packet between two nodes looks like to the fabric. */
export interface Crossing {
  /** encapsulated: outer addresses are the nodes'; plain: the workloads' own. */
  readonly form: 'encapsulated' | 'plain';
  readonly sameZone: boolean;
}

/** Whether the fabric carries a packet from one node to another. */
export function fabricCarries(profile: FabricProfile, crossing: Crossing): boolean {
  switch (profile) {
    case 'l2':
    case 'vpc':
      // Frames within a subnet pass unseen; across, only what is addressed from node to node: the router of
      // `l2` has no route to a workload, that of `vpc` drops addresses that are no hosts of its subnets.
      return crossing.sameZone || crossing.form === 'encapsulated';
    default:
      return assertNever(profile, 'fabric profile');
  }
}

/** Whether the internet and a workload's own, untranslated address can talk: nobody out there has a route back. */
export function internetSees(profile: FabricProfile): 'nothing' | 'the workload' {
  switch (profile) {
    case 'l2':
      return 'the workload';
    case 'vpc':
      return 'nothing';
    default:
      return assertNever(profile, 'fabric profile');
  }
}
