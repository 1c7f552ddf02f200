/**
 * The nftables table `ip tortie`, as text for `nft -f -`: one transaction, so that no packet sees it half done,
 * and without deleting chains or sets, so that connections that are tracked and translated stay as they are.
 */
import { type PacketRules, WORKLOAD_INTERFACE_PREFIX } from '../control/ports.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix } from '../ip/prefix.ts';

const TABLE = 'ip tortie';

export function rulesText(rules: PacketRules): string {
  const fromWorkload = `iifname "${WORKLOAD_INTERFACE_PREFIX}*"`;
  const lines = [
    `add table ${TABLE}`,
    `flush table ${TABLE}`,
    ...setLines('pools', rules.pools),
    ...setLines('nat-pools', rules.natPools),
    `add chain ${TABLE} prerouting { type filter hook prerouting priority mangle; policy accept; }`,
    // They would leave with this node's address, or arrive as if from it: a workload must not speak for its node.
    `add rule ${TABLE} prerouting ${fromWorkload} ip protocol 4 drop`,
    `add rule ${TABLE} prerouting ${fromWorkload} udp dport ${rules.udpPort} drop`,
    `add chain ${TABLE} postrouting { type nat hook postrouting priority srcnat; policy accept; }`,
  ];
  if (rules.tunnelAddress !== null) {
    const own = formatIpv4(rules.tunnelAddress);
    // `snat to`, not masquerade: a masqueraded connection is killed when its route changes device, as a mode flip does.
    lines.push(
      `add rule ${TABLE} postrouting oifname "${rules.device}" fib saddr type local ip saddr != ${own} snat to ${own}`,
    );
  }
  lines.push(`add rule ${TABLE} postrouting ip saddr @nat-pools ip daddr != @pools masquerade fully-random`);
  return `${lines.join('\n')}\n`;
}

function setLines(name: string, prefixes: readonly Prefix[]): string[] {
  const lines = [
    `add set ${TABLE} ${name} { type ipv4_addr; flags interval; auto-merge; }`,
    `flush set ${TABLE} ${name}`,
  ];
  if (prefixes.length)
    lines.push(`add element ${TABLE} ${name} { ${prefixes.map(formatPrefix).join(', ')} }`);
  return lines;
}

/** For a table of our name that somebody gave another shape: begin anew. */
export function rulesTextAfresh(rules: PacketRules): string {
  return `add table ${TABLE}\ndelete table ${TABLE}\n${rulesText(rules)}`;
}
