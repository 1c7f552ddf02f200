/** Whatever of the host has a say about outer packets, in words: its firewall, its IPsec policies, its rules by protocol. */
import { hasIpsecPolicies } from './ipsec.ts';
import { type FirewallPlace, type OuterFirewall, readOuterFirewall } from './outer-firewall.ts';
import { hasProtocolRules } from './protocol-rules.ts';

const IPSEC = 'an IPsec policy of the host';
const PROTOCOL_RULE = 'a rule of policy routing by protocol';
/** Family, table and chain; else it is told why the firewall is not known. */
const CHAIN = /^\S+ \S+ \S+$/;

export async function readOuterObstacles(place: FirewallPlace): Promise<OuterFirewall> {
  if (await hasIpsecPolicies(place.enter)) return { outbound: IPSEC, inbound: IPSEC };
  const [{ outbound, inbound }, routedByProtocol] = await Promise.all([
    readOuterFirewall(place),
    hasProtocolRules(place.enter),
  ]);
  return {
    outbound: inWords(outbound) ?? (routedByProtocol ? PROTOCOL_RULE : null),
    inbound: inWords(inbound),
  };
}

function inWords(forbids: string | null): string | null {
  return forbids !== null && CHAIN.test(forbids) ? `the firewall's chain ${forbids}` : forbids;
}
