/**
 * The fast path over what underlays are made of, each put in the place of the one before under a running agent: it
 * carries all, captures show nothing but protocol 4, and a stream's hash comes out. VLAN and bond where the kernel has them.
 */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { askUnix } from '../../src/agent/http.ts';
import type { TunnelStatus } from '../../src/agent/status.ts';
import { tunnelSocketPath } from '../../src/agent/tunnel-options.ts';
import { openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { eventually } from '../helpers/small-cloud.ts';
import { transfer } from '../helpers/tcp-transfer.ts';
import { address, block, type Host, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';
import { hangXdp } from '../helpers/xdp-pass.ts';

const hosts = new TunnelHosts('tl');
const flags = (host: Host) => ['--local', address(host), '--fast-path', 'ebpf'];

beforeAll(async () => {
  hosts.up();
  await Promise.all([hosts.serve('a', ...flags('a')), hosts.serve('b', ...flags('b'))]);
  hosts.configure('a', 'b');
  hosts.configure('b', 'a');
  for (const host of ['a', 'b'] as const)
    await hosts.until(host, 'its route is in force', (s) => s.entries === 1);
});
afterAll(() => hosts.down());

const DEFAULT = 'route replace default via 10.0.1.1';
const MOVE = {
  off: [`addr del ${address('a')}/24 dev eth0`],
  back: [`addr add ${address('a')}/24 dev eth0`],
};
const gone = (device: string) => [`link del ${device}`, ...MOVE.back, 'link set eth0 up', DEFAULT];
const on = (device: string) => [
  `addr add ${address('a')}/24 dev ${device}`,
  `link set ${device} up`,
  DEFAULT,
];

interface Underlay {
  readonly what: string;
  /** Of links, where a kernel may not have it. */
  readonly kind?: string;
  readonly put: readonly string[];
  readonly take: readonly string[];
  /** The same on the router. */
  readonly router?: { readonly put: readonly string[]; readonly take: readonly string[] };
  readonly xdp?: true;
  readonly ipv6?: true;
}

const UNDERLAYS: readonly Underlay[] = [
  { what: 'a veth', put: [], take: [] },
  {
    what: 'a bridge with a veth for a port',
    put: ['link add br0 type bridge', ...MOVE.off, 'link set eth0 master br0', ...on('br0')],
    take: gone('br0'),
  },
  {
    what: 'a macvlan',
    put: ['link add link eth0 name mac0 type macvlan mode bridge', ...MOVE.off, ...on('mac0')],
    take: gone('mac0'),
  },
  { what: 'a veth with an XDP program', put: [], take: [], xdp: true },
  {
    what: 'a router that has an IPv6 address only',
    put: ['route replace default via inet6 fe80::1 dev eth0'],
    take: [DEFAULT],
    router: { put: ['addr add fe80::1/64 dev to-a nodad'], take: ['addr del fe80::1/64 dev to-a'] },
    ipv6: true,
  },
  {
    what: 'a VLAN',
    kind: 'vlan',
    put: ['link add link eth0 name eth0.10 type vlan id 10', ...MOVE.off, ...on('eth0.10')],
    take: gone('eth0.10'),
    router: {
      put: [
        'link add link to-a name to-a.10 type vlan id 10',
        'addr del 10.0.1.1/24 dev to-a',
        'addr add 10.0.1.1/24 dev to-a.10',
        'link set to-a.10 up',
      ],
      take: ['link del to-a.10', 'addr add 10.0.1.1/24 dev to-a'],
    },
  },
  {
    what: 'a bond, active-backup',
    kind: 'bond',
    put: [
      'link add bond0 type bond mode active-backup',
      ...MOVE.off,
      'link set eth0 down',
      'link set eth0 master bond0',
      ...on('bond0'),
    ],
    take: gone('bond0'),
  },
];

/** Whether this kernel makes such links. */
function has(kind: string): boolean {
  const name = `t${process.pid}`;
  const words =
    kind === 'vlan' ? ['link', 'lo', 'name', name, 'type', 'vlan', 'id', '10'] : [name, 'type', kind];
  try {
    execFileSync('ip', ['link', 'add', ...words], { stdio: 'pipe', timeout: 10_000 });
  } catch {
    return false;
  }
  execFileSync('ip', ['link', 'del', name], { timeout: 10_000 });
  return true;
}

const fast = (status: TunnelStatus) =>
  (['outbound', 'inbound'] as const).map((direction) => status.counters[`${direction}_note_fast_packets`]!);

/** Pings until some cross by the fast path in both directions: the change of the underlay was followed. */
const carriedFrom = (host: Host, to: string) =>
  eventually(`${host} sends and takes by the fast path`, async () => {
    const before = fast((await hosts.status(host))!);
    if (!hosts.ping(host, to, '-c', '1', '-w', '1').includes('1 received')) return undefined;
    const after = fast((await hosts.status(host))!);
    return after.every((count, i) => count > before[i]!) || undefined;
  });

/** Where nothing else is said, these hosts have none. */
function letIpv6(): void {
  hosts.run('a', 'sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=0');
  hosts.run('r', 'sysctl', '-qw', 'net.ipv6.conf.to-a.disable_ipv6=0');
}

for (const { what, kind, put, take, router, xdp, ipv6 } of UNDERLAYS) {
  test.skipIf(kind !== undefined && !has(kind))(`${what}: all of it by the fast path`, async () => {
    if (ipv6) letIpv6();
    if (router) hosts.ip('r', ...router.put);
    hosts.ip('a', ...put);
    const takeOff = xdp && hangXdp(hosts.namespace('a'), 'eth0');
    try {
      await carriedFrom('a', inner('b'));
      const capture = openCapture({
        netnsPath: namedNetworkNamespace(hosts.namespace('r')),
        interface: 'to-b',
      });
      const before = fast((await hosts.status('a'))!);
      expect(hosts.ping('a', inner('b'), '-q', '-c', '10')).toContain('10 received');
      const status = (await hosts.status('a'))!;
      expect(status.fastPath).toEqual({ outbound: null, inbound: null });
      expect(fast(status).map((count, i) => count - before[i]!)).toEqual([10, 10]);
      const a = { from: hosts.namespace('a'), fromAddress: inner('a') };
      const b = { to: hosts.namespace('b'), toAddress: inner('b') };
      expect((await transfer({ ...a, ...b, chunks: 32 })).intact).toBe(true);
      const protocols = capture
        .read()
        .filter(({ bytes }) => bytes[12] === 8 && bytes[13] === 0)
        .map(({ bytes }) => bytes[23]);
      capture.close();
      expect(protocols.length).toBeGreaterThanOrEqual(20);
      expect(new Set(protocols)).toEqual(new Set([4]));
    } finally {
      takeOff?.();
      if (router) hosts.ip('r', ...router.take);
      hosts.ip('a', ...take);
    }
    expect(await hosts.gaps()).toEqual({});
  });
}

/** c is a host of a routed fabric: its address is the loopback's, and others lead to it. */
function routeToLoopback(): void {
  hosts.ip(
    'c',
    `addr del ${address('c')}/24 dev eth0`,
    'addr add 10.0.3.12/24 dev eth0',
    `addr add ${address('c')}/32 dev lo`,
    `route replace default via 10.0.3.1 src ${address('c')}`,
  );
  hosts.ip('r', `route add ${address('c')}/32 via 10.0.3.12`);
}

test("two tunnels on one host and one device, to a host whose address is the loopback's: each takes its own", async () => {
  const second = '10.0.1.13';
  routeToLoopback();
  hosts.ip('a', `addr add ${second}/24 dev eth0`);
  hosts.start('a', '--device', 'tunl1', '--local', second, '--fast-path', 'ebpf');
  const socket = tunnelSocketPath(hosts.runDirectory('a'), 'tunl1');
  const status = async () => {
    const body = await askUnix(socket, '/v1/status').catch(() => undefined);
    return body === undefined ? undefined : (JSON.parse(body) as TunnelStatus);
  };
  await Promise.all([
    hosts.serve('c', ...flags('c')),
    eventually('tunl1 runs', async () => ((await status())?.state === 'running' ? true : undefined)),
  ]);
  hosts.ip(
    'a',
    'addr add 192.168.9.0/32 dev tunl1',
    'link set tunl1 up',
    `route add ${block('c')} via ${address('c')} dev tunl1 onlink`,
  );
  hosts.configure('c');
  hosts.ip('c', `route add 192.168.9.0/26 via ${second} dev tunl0 onlink`);
  await hosts.until('c', 'its route is in force', (s) => s.entries === 1);
  await eventually('tunl1 has its route', async () => ((await status())?.entries === 1 ? true : undefined));
  await carriedFrom('a', inner('b'));
  await carriedFrom('c', '192.168.9.0');
  const before = [fast((await hosts.status('a'))!), fast((await status())!)];
  expect(hosts.ping('a', inner('b'), '-q', '-c', '7')).toContain('7 received');
  expect(hosts.ping('a', inner('c'), '-q', '-c', '5')).toContain('5 received');
  const after = [fast((await hosts.status('a'))!), fast((await status())!)];
  expect(after.map((counts, i) => counts.map((count, j) => count - before[i]![j]!))).toEqual([
    [7, 7],
    [5, 5],
  ]);
  expect(await hosts.gaps()).toEqual({});
});
