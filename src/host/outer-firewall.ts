/**
 * Whether the host's firewall has a say about outer packets, those of protocol 4 between nodes. The eBPF programs go
 * around netfilter, so a chain that might drop or change such packets keeps them off: it need not mention protocol 4
 * to mean it. Felix's stock rules for ipencap do not count, since our source checks stand in for them.
 *
 *   nft-chains, iptables-chains   what the tools list -> chains of steps, each with what outer-packet knows of it
 *   firewall-walk                 chains in the order of the hooks -> the first that forbids
 */
import { run } from './commands.ts';
import { type FirewallChain, forbiddingChain, INBOUND_HOOKS, OUTBOUND_HOOKS } from './firewall-walk.ts';
import { iptablesChains } from './iptables-chains.ts';
import { hasForeignStatements, type Listed, nftChains } from './nft-chains.ts';
import { NOT_KNOWN, type OuterDirection, type OwnAddresses } from './outer-packet.ts';

/** Which chain forbids each direction to go around it; null where none does. */
export interface OuterFirewall {
  readonly outbound: string | null;
  readonly inbound: string | null;
}

const FAMILIES = ['ip', 'inet', 'netdev'];

export interface FirewallListings {
  /** What `nft -j list ruleset` prints. */
  readonly nft: string;
  /** What iptables-nft-save prints; null where there is none. */
  readonly iptablesNft: string | null;
  /** What iptables-legacy-save prints; null where it has no tables. */
  readonly iptablesLegacy: string | null;
  readonly tunnelDevice: string;
  readonly own?: OwnAddresses | undefined;
}

export function judgeOuterFirewall(listings: FirewallListings): OuterFirewall {
  return {
    outbound: forbiddingChain(chainsOf(listings, 'outbound'), OUTBOUND_HOOKS),
    inbound: forbiddingChain(chainsOf(listings, 'inbound'), INBOUND_HOOKS),
  };
}

function chainsOf(listings: FirewallListings, direction: OuterDirection): FirewallChain[] {
  const listed = listedBy(listings.nft);
  const { tunnelDevice, own = NOT_KNOWN } = listings;
  const packets = { direction, tunnelDevice, own: own[direction] };
  const isOurs = (family: string, table: string) => family === 'ip' && table === 'tortie';
  const native = nftChains(listed, packets).filter(
    ({ family, table }) => FAMILIES.includes(family) && !isOurs(family, table),
  );
  const ofIptables = tablesOfIptables(listed);
  const [nft, legacy] = [listings.iptablesNft, listings.iptablesLegacy].map((text) =>
    text === null ? [] : iptablesChains(text, packets),
  ) as [FirewallChain[], FirewallChain[]];
  // Where iptables-nft-save is missing, what nft cannot read stays, and forbids.
  const readable = listings.iptablesNft === null ? new Set() : ofIptables;
  const isReadable = ({ family, table }: FirewallChain) => family === 'ip' && readable.has(table);
  return [
    ...native.filter((chain) => !isReadable(chain)),
    ...nft.filter(isReadable),
    // The same names as iptables-nft's: theirs must not answer for each other's jumps.
    ...legacy.map((chain) => ({ ...chain, family: 'iptables-legacy' })),
  ];
}

function listedBy(nft: string): readonly Listed[] {
  return (JSON.parse(nft) as { nftables: readonly Listed[] }).nftables;
}

/** Tables of the family ip with rules that nft cannot read: iptables-nft made them. */
function tablesOfIptables(listed: readonly Listed[]): Set<string> {
  return new Set(
    listed.flatMap(({ rule }) => (rule?.family === 'ip' && hasForeignStatements(rule) ? [rule.table] : [])),
  );
}

export interface FirewallPlace {
  /** /proc/net/ip_tables_names: what iptables-legacy has, which nft does not list. */
  readonly legacyTables: string;
  readonly tunnelDevice: string;
  readonly own?: OwnAddresses | undefined;
  /** Words that lead into another namespace, before the commands. */
  readonly enter?: readonly string[];
}

export async function readOuterFirewall(place: FirewallPlace): Promise<OuterFirewall> {
  const { legacyTables, tunnelDevice, own, enter = [] } = place;
  const { status, stdout, stderr } = await run([...enter, 'nft', '-j', 'list', 'ruleset']);
  if (status !== 0) return unknown(`a firewall that nft cannot list (${stderr.trim()})`);
  const hasIptables = tablesOfIptables(listedBy(stdout)).size > 0;
  const iptablesNft = hasIptables ? await output([...enter, 'iptables-nft-save']) : null;
  const hasLegacy = legacyTables.trim() !== '';
  const iptablesLegacy = hasLegacy ? await output([...enter, 'iptables-legacy-save']) : null;
  if (hasLegacy && iptablesLegacy === null)
    return unknown(`iptables-legacy ${legacyTables.trim().split('\n')[0]}, which cannot be read`);
  return judgeOuterFirewall({ nft: stdout, iptablesNft, iptablesLegacy, tunnelDevice, own });
}

const unknown = (why: string): OuterFirewall => ({ outbound: why, inbound: why });

/** null where the program is missing or fails. */
async function output(words: readonly string[]): Promise<string | null> {
  const ran = await run(words).catch(() => undefined);
  return ran?.status === 0 ? ran.stdout : null;
}
