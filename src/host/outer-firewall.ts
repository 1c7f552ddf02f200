/**
 * Whether the host's firewall has a say about outer packets, those of protocol 4 between nodes. The eBPF programs go
 * around netfilter, so a chain that could judge such packets keeps them off: it need not mention protocol 4 to mean it.
 */
import { run } from './commands.ts';

/** Which chain forbids each direction to go around it; null where none does. */
export interface OuterFirewall {
  readonly outbound: string | null;
  readonly inbound: string | null;
}

/** Hooks that outer packets pass. Inner ones pass the others (forward) on both paths. */
const INBOUND_HOOKS = ['ingress', 'prerouting', 'input'];
const OUTBOUND_HOOKS = ['output', 'postrouting', 'egress'];
const FAMILIES = ['ip', 'inet', 'netdev'];

interface Chain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

interface Listed {
  readonly chain?: Chain;
  readonly rule?: { readonly family: string; readonly table: string; readonly chain: string };
}

/** `listing`: what `nft -j list ruleset` prints. `legacyTables`: /proc/net/ip_tables_names. */
export function judgeOuterFirewall(listing: string, legacyTables: string): OuterFirewall {
  const { nftables } = JSON.parse(listing) as { nftables: readonly Listed[] };
  const filled = new Set(
    nftables.flatMap(({ rule }) => (rule ? [`${rule.family} ${rule.table} ${rule.chain}`] : [])),
  );
  const forbidding = nftables.flatMap(({ chain }) => {
    if (!chain?.hook || !FAMILIES.includes(chain.family)) return [];
    if (chain.family === 'ip' && chain.table === 'tortie') return [];
    const name = `${chain.family} ${chain.table} ${chain.name}`;
    return filled.has(name) || chain.policy === 'drop' ? [{ name, hook: chain.hook }] : [];
  });
  const legacy = legacyTables.trim() === '' ? null : `iptables-legacy ${legacyTables.trim().split('\n')[0]}`;
  const first = (hooks: readonly string[]) =>
    legacy ?? forbidding.find(({ hook }) => hooks.includes(hook))?.name ?? null;
  return { outbound: first(OUTBOUND_HOOKS), inbound: first(INBOUND_HOOKS) };
}

/** Asks nft in the namespace that `enter` leads into (words before the command), our own by default. */
export async function readOuterFirewall(
  legacyTables: string,
  enter: readonly string[] = [],
): Promise<OuterFirewall> {
  const { status, stdout, stderr } = await run([...enter, 'nft', '-j', 'list', 'ruleset']);
  if (status === 0) return judgeOuterFirewall(stdout, legacyTables);
  const unknown = `a firewall that nft cannot list (${stderr.trim()})`;
  return { outbound: unknown, inbound: unknown };
}
