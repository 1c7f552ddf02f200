/**
 * Calico's Felix, imitated: the netlink changes that Felix 3.31 makes on a host, in its order, by `ip` and `nft`.
 * It finds a device named tunl0, never asks of what kind it is, and no line of ours is told about any of it.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { decodeFrame, ipv4Layers } from '../../src/wire/decode.ts';
import { eventually, MAIN } from '../helpers/small-cloud.ts';
import { transfer } from '../helpers/tcp-transfer.ts';
import {
  address,
  block,
  type Host,
  inner,
  TunnelHosts,
  type TunnelProcess,
} from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('tf');
const ALL: readonly Host[] = ['a', 'b', 'c'];
const others = (host: Host) => ALL.filter((other) => other !== host);
let tunnelOfA: TunnelProcess | undefined;
/** In the host's block, as a workload's address; on `lo`, where Felix would have it behind a `cali` interface. */
const workload = (host: Host) => inner(host).replace(/\.0$/, '.5');

/** ipip manager: MTU, the /32 as the only address, up. Routes wait for the interface to be up. */
async function felixSetsUpDevice(host: Host): Promise<void> {
  hosts.ip(host, 'link set tunl0 mtu 1480', `addr add ${inner(host)}/32 dev tunl0`, 'link set tunl0 up');
  await eventually(`${host}: the interface is up`, async () =>
    hosts.run(host, 'ip', 'link', 'show', 'tunl0').includes('LOWER_UP') ? true : undefined,
  );
}

/** Route manager: own block as a blackhole, then each remote node's tunnel address and block. */
function felixAddsRoutes(host: Host): void {
  const by = (other: Host) => `via ${address(other)} dev tunl0 proto 80 onlink mtu 1480`;
  hosts.ip(
    host,
    `route add blackhole ${block(host)} proto 80`,
    ...others(host).flatMap((other) => [
      `route add ${inner(other)}/32 ${by(other)}`,
      `route add ${block(other)} ${by(other)}`,
    ]),
  );
}

/** Felix sees the carrier go, and takes away what leads by the device; its blackhole stays. */
async function felixWithdrawsRoutes(host: Host): Promise<void> {
  await eventually(`${host}: no carrier`, async () =>
    hosts.run(host, 'ip', 'link', 'show', 'tunl0').includes('NO-CARRIER') ? true : undefined,
  );
  hosts.ip(host, 'route flush dev tunl0 proto 80');
}

/** The rules of Felix's nftables that concern protocol 4 and the device. */
function felixAddsRules(host: Host): void {
  const all = ALL.map(address).join(', ');
  hosts.run(
    host,
    'nft',
    `add table ip calico
     add set ip calico all-hosts { type ipv4_addr; elements = { ${all} }; }
     add chain ip calico input { type filter hook input priority 0; }
     add rule ip calico input meta l4proto 4 ip saddr @all-hosts fib daddr type local accept
     add rule ip calico input meta l4proto 4 drop
     add chain ip calico output { type filter hook output priority 0; }
     add rule ip calico output meta l4proto 4 ip daddr @all-hosts fib saddr type local accept
     add chain ip calico postrouting { type nat hook postrouting priority 100; }
     add rule ip calico postrouting oifname tunl0 fib saddr . oif type != local fib saddr type local masquerade`,
  );
}

beforeAll(async () => {
  hosts.up();
  [tunnelOfA] = await Promise.all(ALL.map((host) => hosts.serve(host)));
});

afterAll(async () => {
  await hosts.down();
});

test('what Felix does to a new node is enough: hosts and workloads reach each other', async () => {
  for (const host of ALL) {
    hosts.ip(host, `addr add ${workload(host)}/32 dev lo`);
    await felixSetsUpDevice(host);
    felixAddsRoutes(host);
    felixAddsRules(host);
  }
  for (const host of ALL)
    for (const other of others(host)) {
      expect(hosts.ping(host, workload(other), '-c', '2')).toContain('2 received');
      expect(hosts.ping(host, workload(other), '-c', '2', '-I', workload(host))).toContain('2 received');
    }
  const tcp = await transfer({
    from: hosts.namespace('a'),
    fromAddress: workload('a'),
    to: hosts.namespace('b'),
    toAddress: workload('b'),
    chunks: 32,
  });
  expect(tcp.intact).toBe(true);
  const { entries, warnings, counters } = (await hosts.status('a'))!;
  expect({ entries, warnings }).toEqual({ entries: 4, warnings: [] });
  const drops = Object.entries(counters).filter(([name, count]) => /_drop_/.test(name) && count > 0);
  expect(drops).toEqual([]);
});

test('what the host sends from its own address is masqueraded to the tunnel address, and comes back', () => {
  expect(hosts.ping('a', workload('b'), '-c', '2', '-I', address('a'))).toContain('2 received');
});

test('one end plain, the other wrapping (subnets of different lengths): both directions arrive', async () => {
  // For a, b is on its own subnet now: plain by eth0, the node itself as the gateway; the router answers for it.
  hosts.run('r', 'sysctl', '-qw', 'net.ipv4.conf.to-a.proxy_arp=1');
  hosts.ip('r', `route add ${block('b')} via ${address('b')}`);
  hosts.ip('a', `route replace ${block('b')} via ${address('b')} dev eth0 onlink proto 80`);
  const taken = (await hosts.status('a'))!.counters.inbound_out_device_packets!;
  expect(hosts.ping('a', workload('b'), '-c', '3', '-I', workload('a'))).toContain('3 received');
  await hosts.until(
    'a',
    'the answers came wrapped',
    (s) => s.counters.inbound_out_device_packets === taken + 3,
  );
  hosts.ip('a', `route replace ${block('b')} via ${address('b')} dev tunl0 proto 80 onlink mtu 1480`);
  expect(hosts.ping('a', workload('b'), '-c', '2')).toContain('2 received');
});

test('a node that Felix takes away is no peer any more', async () => {
  hosts.ip('a', `route del ${block('c')}`, `route del ${inner('c')}/32`);
  const { entries, peers, lastChange } = (await hosts.status('a'))!;
  expect(entries).toBe(2);
  expect(peers.map((peer) => peer.address)).not.toContain(address('c'));
  expect(lastChange?.what).toMatch(/is gone$/);
  expect(hosts.ping('c', workload('a'), '-c', '1', '-W', '1')).toContain(' 0 received');
  expect(hosts.ping('b', workload('a'), '-c', '1')).toContain('1 received');
});

test('Felix’s clean-up: routes, address and rules gone, and everything can begin anew', async () => {
  hosts.run('a', 'nft', 'delete table ip calico');
  hosts.ip('a', 'route flush proto 80', `addr del ${inner('a')}/32 dev tunl0`, 'link set tunl0 down');
  expect(await hosts.status('a')).toMatchObject({ entries: 0, state: 'running' });
  await felixSetsUpDevice('a');
  felixAddsRoutes('a');
  felixAddsRules('a');
  for (const other of others('a'))
    expect(hosts.ping('a', workload(other), '-c', '2')).toContain('2 received');
});

/** What a's pings to b's workload look like on the router's port: `plain`, `wrapped`; nothing where none leave. */
function seenOfPings(): string[] {
  const capture = openCapture({ netnsPath: namedNetworkNamespace(hosts.namespace('r')), interface: 'to-a' });
  try {
    hosts.ping('a', workload('b'), '-c', '3', '-W', '1');
    const kinds = capture.read().flatMap(({ bytes }) => {
      const layers = ipv4Layers(decodeFrame(bytes));
      const toWorkload = layers.some(({ destination }) => destination === ipv4(workload('b')));
      return toWorkload ? (layers.length > 1 ? 'wrapped' : 'plain') : [];
    });
    return [...new Set(kinds)];
  } finally {
    capture.close();
  }
}

async function killTunnelOfA(): Promise<void> {
  tunnelOfA!.process.kill('SIGKILL');
  await tunnelOfA!.ended;
  await felixWithdrawsRoutes('a');
}

async function serveAgain(...words: string[]): Promise<void> {
  tunnelOfA = await hosts.serve('a', ...words);
  hosts.ip('a', 'route flush proto 80');
  felixAddsRoutes('a');
  await eventually('ping passes', async () =>
    hosts.ping('a', workload('b'), '-c', '1').includes('1 received') ? true : undefined,
  );
}

const guardRoute = () => hosts.run('a', 'ip', 'route', 'show', 'type', 'unreachable').trim();

test('killed, Felix takes its routes away and packets left by the default route: --guard keeps them in', async () => {
  await killTunnelOfA();
  expect(seenOfPings()).toEqual(['plain']);
  await serveAgain('--guard', '192.168.0.0/16');
  expect(guardRoute()).toBe('unreachable 192.168.0.0/16 proto kernel metric 4294967295');
  expect(seenOfPings()).toEqual(['wrapped']);
  await killTunnelOfA();
  expect(seenOfPings()).toEqual([]);
  expect(hosts.ping('a', workload('b'), '-c', '1', '-W', '1')).toMatch(/unreachable|No route to host/i);
});

test('a guard comes back when somebody takes it away, goes when it is not asked for, and by --cleanup', async () => {
  await serveAgain('--guard', '192.168.0.0/16,10.96.0.0/12');
  expect(await hosts.status('a')).toMatchObject({ guard: ['192.168.0.0/16', '10.96.0.0/12'], warnings: [] });
  hosts.ip('a', 'route flush type unreachable');
  await eventually('the guards are back', async () =>
    guardRoute().split('\n').length === 2 ? true : undefined,
  );
  const cleanUp = () =>
    hosts.run(
      'a',
      'env',
      `TORTIE_RUN_DIR=${hosts.runDirectory('a')}`,
      process.execPath,
      MAIN,
      'tunnel',
      'run',
      '--cleanup',
    );
  expect(cleanUp).toThrow(expect.objectContaining({ status: 4 }));
  await killTunnelOfA();
  await serveAgain('--guard', '10.96.0.0/12');
  expect(guardRoute()).toMatch(/^unreachable 10\.96\.0\.0\/12 /);
  await killTunnelOfA();
  cleanUp();
  expect(guardRoute()).toBe('');
});
