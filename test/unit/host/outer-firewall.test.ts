/** Which chains of a host's firewall keep the fast path off, by what `nft -j list ruleset` prints. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { judgeOuterFirewall } from '../../../src/host/outer-firewall.ts';
import type { OwnAddresses } from '../../../src/host/outer-packet.ts';
import { ipv4 } from '../../../src/ip/ipv4.ts';

const chain = (table: string, name: string, hook: string | null, policy = 'accept', family = 'ip') => ({
  chain: { family, table, name, ...(hook === null ? {} : { hook, policy, type: 'filter', prio: 0 }) },
});
const rule = (table: string, name: string, family = 'ip') => ({
  rule: { family, table, chain: name, expr: [{ drop: null }] },
});
const judge = (...nftables: object[]) =>
  judgeOuterFirewall({
    nft: JSON.stringify({ nftables: [{ metainfo: {} }, ...nftables] }),
    iptablesNft: null,
    iptablesLegacy: null,
    tunnelDevice: 'tunl0',
  });
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

const fixture = (name: string) =>
  readFileSync(join(import.meta.dirname, '../../fixtures/firewalls', name), 'utf8');
const legacy = (text: string, own?: OwnAddresses) =>
  judgeOuterFirewall({
    own,
    nft: '{"nftables": []}',
    iptablesNft: null,
    iptablesLegacy: text,
    tunnelDevice: 'tunl0',
  });

test("Felix's and kube-proxy's tables of iptables-legacy keep nothing off", () => {
  // With ipset, which Felix uses and test machines lack.
  const felix = fixture('felix.iptables')
    .replace('--dst-type LOCAL', '--dst-type LOCAL -m set --match-set cali40all-hosts-net src')
    .replace(
      ':cali-nat-outgoing - [0:0]',
      ':cali-nat-outgoing - [0:0]\n-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE',
    );
  expect(felix.match(/--match-set/g)).toHaveLength(3);
  expect(legacy(felix)).toEqual(FREE);
  expect(legacy(fixture('kube-proxy.iptables'))).toEqual(FREE);
});

/** One line of iptables-save in the chain INPUT. */
const input = (rule: string, policy = 'ACCEPT') =>
  legacy(`*filter\n:INPUT ${policy} [0:0]\n:own - [0:0]\n${rule}\nCOMMIT\n`).inbound;
const FORBIDS = 'iptables-legacy filter INPUT';

test.each([
  ['-A INPUT -p tcp --dport 22 -j DROP', null],
  ['-A INPUT ! -p tcp -j DROP', FORBIDS],
  ['-A INPUT -s 10.0.2.11/32 -j DROP', FORBIDS],
  ['-A INPUT -d 127.0.0.1/32 -j DROP', null],
  ['-A INPUT ! -d 127.0.0.1/32 -j DROP', FORBIDS],
  ['-A INPUT -j LOG', FORBIDS],
  ['-A INPUT -i cali+ -j DROP', null],
  ['-A INPUT ! -i cali+ -j DROP', FORBIDS],
  ['-A INPUT -j own\n-A own -p 4 -j REJECT', FORBIDS],
  ['-A INPUT -m mark --mark 0x1 -j DROP', null],
  ['-A INPUT -m mark ! --mark 0x1 -j DROP', FORBIDS],
  ['-A INPUT -s 10.0.0.0/8 -j MARK --set-xmark 0x1/0x1\n-A INPUT -m mark --mark 0x1/0x1 -j DROP', FORBIDS],
  // Somewhere the mark may be cleared, elsewhere not.
  [
    '-A INPUT -j CONNMARK --restore-mark\n-A INPUT -s 10.0.0.0/8 -j own\n-A own -j MARK --set-xmark 0x0/0x1\n-A INPUT -m mark --mark 0x1/0x1 -j DROP',
    FORBIDS,
  ],
  ['-A INPUT -p 4 -j ACCEPT\n-A INPUT -j DROP', null],
  ['-A INPUT -s 10.0.2.11/32 -p 4 -j ACCEPT\n-A INPUT -j DROP', FORBIDS],
  ['-A INPUT -g own\n-A INPUT -j DROP', null],
  ['-A INPUT -j own\n-A INPUT -j DROP', FORBIDS],
  ['-A INPUT -m comment --comment "do not -j DROP" -j ACCEPT', null],
])('a rule in INPUT: %s', (rule, wanted) => {
  expect(input(rule)).toBe(wanted);
});

test('a policy of drop forbids unless every outer packet is accepted before it', () => {
  expect(input('-A INPUT -p tcp -j ACCEPT', 'DROP')).toBe(FORBIDS);
  expect(input('-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT', 'DROP')).toBe(FORBIDS);
  expect(input('-A INPUT -p 4 -j ACCEPT', 'DROP')).toBe(null);
});

test('chains that jump in a circle, or nowhere, forbid', () => {
  expect(input('-A INPUT -j own\n-A own -j own')).toBe(FORBIDS);
  expect(input('-A INPUT -j SOMETHING')).toBe(FORBIDS);
});

test("dockerd's tables of iptables-legacy keep nothing off where our addresses are known", () => {
  const own = [ipv4('10.0.1.11')];
  const nat = 'iptables-legacy nat POSTROUTING';
  expect(legacy(fixture('docker.iptables'))).toEqual({ outbound: nat, inbound: null });
  expect(legacy(fixture('docker.iptables'), { outbound: own, inbound: own })).toEqual(FREE);
});
