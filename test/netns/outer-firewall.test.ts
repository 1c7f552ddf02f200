/** Firewalls as Felix and kube-proxy write them, in the kernel and read back by the real tools. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { judgeOuterFirewall, readOuterFirewall } from '../../src/host/outer-firewall.ts';
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
const read = (legacyTables = '') => readOuterFirewall({ legacyTables, tunnelDevice: 'tunl0', enter });

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

// Where iptables is there, it is iptables-nft that has come with it.
describe.skipIf(!existsSync('/usr/sbin/iptables-nft-restore'))('iptables-nft', () => {
  test.each(['felix.iptables', 'kube-proxy.iptables'])('%s does not keep the fast path off', async (name) => {
    feed(fixture(name), 'iptables-nft-restore', '--noflush');
    expect(await read()).toEqual(FREE);
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
