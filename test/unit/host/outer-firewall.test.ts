/** Which chains of a host's firewall keep the fast path off, by what `nft -j list ruleset` prints. */
import { expect, test } from 'vitest';
import { judgeOuterFirewall } from '../../../src/host/outer-firewall.ts';

const chain = (table: string, name: string, hook: string | null, policy = 'accept', family = 'ip') => ({
  chain: { family, table, name, ...(hook === null ? {} : { hook, policy, type: 'filter', prio: 0 }) },
});
const rule = (table: string, name: string, family = 'ip') => ({
  rule: { family, table, chain: name, expr: [] },
});
const judge = (...nftables: object[]) =>
  judgeOuterFirewall(JSON.stringify({ nftables: [{ metainfo: {} }, ...nftables] }), '');
const FREE = { outbound: null, inbound: null };

test.each([
  ['no rules at all', [], FREE],
  [
    'empty base chains that accept',
    [chain('filter', 'INPUT', 'input'), chain('filter', 'OUTPUT', 'output')],
    FREE,
  ],
  ['our own table', [chain('tortie', 'nat', 'postrouting'), rule('tortie', 'nat')], FREE],
  [
    'rules in a chain that no hook reaches',
    [chain('filter', 'helper', null), rule('filter', 'helper')],
    FREE,
  ],
  ['forward rules, which inner packets meet anyhow', [chain('filter', 'FORWARD', 'forward', 'drop')], FREE],
  [
    'IPv6 and bridges',
    [chain('f', 'in', 'input', 'drop', 'ip6'), chain('f', 'in', 'input', 'drop', 'bridge')],
    FREE,
  ],
  ['a policy of drop', [chain('f', 'in', 'input', 'drop', 'inet')], { outbound: null, inbound: 'inet f in' }],
  [
    'a rule at the output',
    [chain('f', 'out', 'output'), rule('f', 'out')],
    { outbound: 'ip f out', inbound: null },
  ],
  [
    'rules at both ends',
    [
      chain('nat', 'POSTROUTING', 'postrouting'),
      rule('nat', 'POSTROUTING'),
      chain('raw', 'PREROUTING', 'prerouting'),
      rule('raw', 'PREROUTING'),
    ],
    { outbound: 'ip nat POSTROUTING', inbound: 'ip raw PREROUTING' },
  ],
])('%s', (_, nftables, wanted) => {
  expect(judge(...nftables)).toEqual(wanted);
});

test('tables of iptables-legacy, which nft does not list, keep both directions off', () => {
  const judged = judgeOuterFirewall('{"nftables": []}', 'filter\nnat\n');
  expect(judged).toEqual({ outbound: 'iptables-legacy filter', inbound: 'iptables-legacy filter' });
});
