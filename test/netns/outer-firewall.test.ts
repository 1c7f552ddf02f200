/** Firewalls as Felix and kube-proxy write them, in the kernel and read back by the real tools. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { judgeOuterFirewall, readOuterFirewall } from '../../src/host/outer-firewall.ts';
import type { OwnAddresses } from '../../src/host/outer-packet.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { ip } from '../helpers/two-nodes.ts';

const fixture = (name: string) =>
  readFileSync(join(import.meta.dirname, '../fixtures/firewalls', name), 'utf8');
const namespace = `tortie-t${process.pid}-fw`;
const enter = ['ip', 'netns', 'exec', namespace];
const FREE = { outbound: null, inbound: null };

beforeEach(() => {
  ip('netns', 'add', namespace);
});
afterEach(() => {
  ip('netns', 'del', namespace);
});

function feed(input: string, ...words: string[]): string {
  const [program = '', ...rest] = [...enter, ...words];
  return execFileSync(program, rest, { input, encoding: 'utf8', timeout: 20_000, stdio: 'pipe' });
}
const read = (own?: OwnAddresses) =>
  readOuterFirewall({ legacyTables: '', tunnelDevice: 'tunl0', own, enter });
const from = (...addresses: string[]): OwnAddresses => {
  const own = addresses.map(ipv4);
  return { outbound: own, inbound: own };
};

test('Felix in nftables mode does not keep the fast path off; what somebody adds does', async () => {
  feed(fixture('felix.nft'), 'nft', '-f', '-');
  expect(await read()).toEqual(FREE);
  feed('', 'nft', 'insert rule ip calico filter-INPUT ip protocol 4 drop');
  expect(await read()).toEqual({ outbound: null, inbound: 'ip calico filter-INPUT' });
  feed('', 'nft', 'add rule ip calico raw-PREROUTING ip saddr 10.0.2.11 drop');
  expect(await read()).toEqual({ outbound: null, inbound: 'ip calico raw-PREROUTING' });
  feed('', 'nft', 'add rule ip calico nat-POSTROUTING masquerade');
  expect((await read()).outbound).toBe('ip calico nat-POSTROUTING');
});

test("Felix's rules shield outer packets from a policy of drop and from host endpoints behind them", async () => {
  feed(fixture('felix.nft'), 'nft', '-f', '-');
  feed('', 'nft', 'add rule ip calico filter-cali-from-host-endpoint iifname eth0 meta l4proto udp drop');
  feed('', 'nft', 'add chain ip calico filter-OUTPUT { policy drop; }');
  expect(await read()).toEqual(FREE);
});

test('rules about addresses are held against those that outer packets have', async () => {
  const ours = from('10.0.1.11');
  feed('', 'nft', 'add table ip f; add chain ip f out { type filter hook output priority 0; }');
  feed('', 'nft', 'add rule ip f out ip saddr { 172.17.0.0/16, 10.0.1.12 } drop');
  expect(await read()).toEqual({ outbound: 'ip f out', inbound: null });
  expect(await read(ours)).toEqual(FREE);
  expect((await read(from('10.0.1.11', '172.17.0.1'))).outbound).toBe('ip f out');
  feed('', 'nft', 'add rule ip f out ip saddr 10.0.1.0/24 accept; add rule ip f out drop');
  expect(await read(ours)).toEqual(FREE);
  // Who the other end is, is not known.
  feed('', 'nft', 'insert rule ip f out ip daddr 10.0.2.11 drop');
  expect((await read(ours)).outbound).toBe('ip f out');
});

// Where iptables is there, it is iptables-nft that has come with it.
describe.skipIf(!existsSync('/usr/sbin/iptables-nft-restore'))('iptables-nft', () => {
  test.each(['felix.iptables', 'kube-proxy.iptables'])('%s does not keep the fast path off', async (name) => {
    feed(fixture(name), 'iptables-nft-restore', '--noflush');
    expect(await read()).toEqual(FREE);
  });

  test("dockerd's tables keep nothing off whose source is known to be no container's", async () => {
    feed(fixture('docker.iptables'), 'iptables-nft-restore', '--noflush');
    expect(await read()).toEqual({ outbound: 'ip nat POSTROUTING', inbound: null });
    expect(await read(from('10.0.1.11'))).toEqual(FREE);
    expect((await read(from('172.17.0.1'))).outbound).toBe('ip nat POSTROUTING');
  });

  test("an admin's own rules do", async () => {
    feed(fixture('felix.iptables'), 'iptables-nft-restore', '--noflush');
    feed(fixture('kube-proxy.iptables'), 'iptables-nft-restore', '--noflush');
    expect(await read()).toEqual(FREE);
    feed(
      '',
      'iptables-nft',
      '-t',
      'mangle',
      '-A',
      'PREROUTING',
      '-m',
      'addrtype',
      '--dst-type',
      'LOCAL',
      '-j',
      'DROP',
    );
    feed('', 'iptables-nft', '-t', 'nat', '-A', 'POSTROUTING', '-s', '10.0.0.0/8', '-j', 'MASQUERADE');
    expect(await read()).toEqual({ outbound: 'ip nat POSTROUTING', inbound: 'ip mangle PREROUTING' });
  });

  test('without iptables-nft-save, rules that nft cannot read keep it off', () => {
    feed(fixture('felix.iptables'), 'iptables-nft-restore', '--noflush');
    const nft = feed('', 'nft', '-j', 'list', 'ruleset');
    expect(
      judgeOuterFirewall({ nft, iptablesNft: null, iptablesLegacy: null, tunnelDevice: 'tunl0' }),
    ).toEqual({ outbound: 'ip raw OUTPUT', inbound: 'ip raw PREROUTING' });
  });
});
