/** Whatever of the host has a say about outer packets, in words: its firewall, and its IPsec policies. */
import { hasIpsecPolicies } from './ipsec.ts';
import { type FirewallPlace, type OuterFirewall, readOuterFirewall } from './outer-firewall.ts';

const IPSEC = 'an IPsec policy of the host';
/** Family, table and chain; else it is told why the firewall is not known. */
const CHAIN = /^\S+ \S+ \S+$/;

export async function readOuterObstacles(place: FirewallPlace): Promise<OuterFirewall> {
  if (await hasIpsecPolicies(place.enter)) return { outbound: IPSEC, inbound: IPSEC };
  const { outbound, inbound } = await readOuterFirewall(place);
  return { outbound: inWords(outbound), inbound: inWords(inbound) };
}

function inWords(forbids: string | null): string | null {
  return forbids !== null && CHAIN.test(forbids) ? `the firewall's chain ${forbids}` : forbids;
}
