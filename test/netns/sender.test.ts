/** `--sender`: frames past the kernel's IP output, and what keeps them from it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { decodeFrame, ipv4Layers } from '../../src/wire/decode.ts';
import { eventually } from '../helpers/small-cloud.ts';
import { address, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('sd');

beforeAll(async () => {
  hosts.up();
  await Promise.all([hosts.serve('a', '--local', address('a')), hosts.serve('b')]);
  hosts.configure('a', 'b');
  hosts.configure('b', 'a');
  for (const host of ['a', 'b'] as const)
    await hosts.until(host, 'its route is in force', (status) => status.entries === 1);
});
afterAll(() => hosts.down());

const counter = async (name: string) => (await hosts.status('a'))!.counters[`outbound_${name}`] ?? 0;
const pings = (count: number) => hosts.ping('a', inner('b'), '-c', String(count), '-W', '1', '-s', '100');

/** Pings until frames carry them: the next hop's Ethernet address is learned by what goes the kernel's way. */
async function untilFramed(): Promise<void> {
  const before = await counter('note_frames_packets');
  await eventually('frames leave', async () => {
    // Whether they are answered does not matter yet, and is not waited for.
    hosts.ping('a', inner('b'), '-c', '3', '-i', '0.01', '-W', '1');
    return (await counter('note_frames_packets')) > before ? true : undefined;
  });
}

test('by default frames carry what has DF, whole on the wire, one packet a second excepted', async () => {
  await untilFramed();
  const capture = openCapture({ netnsPath: namedNetworkNamespace(hosts.namespace('r')), interface: 'to-a' });
  try {
    const before = await counter('note_frames_packets');
    expect(pings(50)).toContain('50 received');
    expect((await counter('note_frames_packets')) - before).toBeGreaterThanOrEqual(30);
    const { sender } = (await hosts.status('a'))!;
    expect(sender).toMatchObject({ mode: 'auto', why: null });
    expect(sender.framedPeers).toBeGreaterThan(0);
    const seen = await eventually('a wrapped echo on the wire', async () => {
      const frames = capture.read().map(({ bytes }) => decodeFrame(bytes));
      return frames.find((layers) => ipv4Layers(layers).length === 2);
    });
    const [outer, wrapped] = ipv4Layers(seen);
    expect(outer).toMatchObject({
      protocol: 4,
      ttl: 64,
      dontFragment: true,
      checksum: 'ok',
      totalLength: 148,
    });
    expect(wrapped).toMatchObject({ protocol: 1, totalLength: 128 });
  } finally {
    capture.close();
  }
  const after = await counter('note_frames_packets');
  expect(hosts.ping('a', inner('b'), '-c', '2', '-M', 'dont')).toContain('2 received');
  expect(await counter('note_frames_packets')).toBe(after);
  expect(await hosts.gaps()).toEqual({});
  // The other host, and the router, which is a next hop of the table that the device's route is in.
  const { sender: settled } = await hosts.until('a', 'frames to both', (s) => s.sender.framedPeers === 2);
  expect(settled).toEqual({ mode: 'auto', framedPeers: 2, why: null });
});

test('a next hop that changes its Ethernet address is followed', async () => {
  const mac = '02:00:00:00:aa:01';
  hosts.ip('r', 'link set to-a down', `link set to-a address ${mac}`, 'link set to-a up');
  hosts.run('a', 'ip', 'neigh', 'flush', 'all');
  await untilFramed();
  expect(pings(20)).toContain('20 received');
});

test('a rule of the host that drops protocol 4 keeps its force, and frames come back without it', async () => {
  const rules = 'table inet pb { chain output { type filter hook output priority 0; ip protocol 4 drop; }; }';
  hosts.run('a', 'nft', rules);
  try {
    await eventually('the rule drops', async () => {
      pings(3);
      return (await counter('drop_firewall_packets')) > 0 ? true : undefined;
    });
    const { sender } = await hosts.until('a', 'it knows why', (s) => /pb output/.test(s.sender.why ?? ''));
    const why = "frames would go around the firewall's chain inet pb output";
    expect(sender).toMatchObject({ framedPeers: 0, why });
    const [frames, drops] = [await counter('note_frames_packets'), await counter('drop_firewall_packets')];
    expect(pings(5)).toContain(' 0 received');
    await hosts.until('a', 'all are dropped', (s) => s.counters.outbound_drop_firewall_packets! >= drops + 5);
    expect(await counter('note_frames_packets')).toBe(frames);
    expect(await counter('drop_firewall_packets')).toBe(drops + 5);
  } finally {
    hosts.run('a', 'nft', 'delete', 'table', 'inet', 'pb');
  }
  await untilFramed();
  expect(pings(5)).toContain('5 received');
});

test("a route that sets an MTU is the kernel's to heed", async () => {
  const framed = async () => (await hosts.status('a'))!.sender.framedPeers;
  const route = (...words: string[]) => hosts.ip('a', `route ${words.join(' ')}`);
  const way = hosts.run('a', 'ip', 'route', 'get', address('b'));
  const via = /via \S+/.exec(way)![0];
  route('add', address('b'), via, 'mtu', '1400');
  try {
    await eventually('no frames to the other host', async () => ((await framed()) === 1 ? true : undefined));
    expect(pings(5)).toContain('5 received');
  } finally {
    route('del', address('b'));
  }
  await eventually('frames again', async () => ((await framed()) === 2 ? true : undefined));
});

test('rules of policy routing were not heard: one that is added or taken away beneath running frames is followed', async () => {
  const framed = (peers: number) =>
    hosts.until('a', `${peers} framed`, (s) => s.sender.framedPeers === peers);
  const rule = (what: 'add' | 'del') => hosts.ip('a', `rule ${what} to ${address('b')} prohibit`);
  await framed(2);
  rule('add');
  try {
    await framed(1);
    const frames = await counter('note_frames_packets');
    expect(pings(5)).toContain(' 0 received');
    expect(await counter('note_frames_packets')).toBe(frames);
  } finally {
    rule('del');
  }
  await framed(2);
  expect(pings(5)).toContain('5 received');
});

const BY_PROTOCOL = [
  {
    what: 'IPsec policies for protocol 4 were not seen by raw sockets: what they are to encrypt left in the clear',
    words: (change: string) =>
      `xfrm policy ${change} src ${address('a')} dst ${address('b')} proto 4 dir out`,
    blocks: 'action block',
    why: 'frames would go around an IPsec policy of the host',
  },
  {
    what: 'rules of policy routing for protocol 4 were not seen by raw sockets, and cannot be by frames',
    words: (change: string) => `rule ${change} to ${address('b')} ipproto 4`,
    blocks: 'prohibit',
    why: 'frames would go around a rule of policy routing by protocol',
  },
];

for (const { what, words, blocks, why } of BY_PROTOCOL)
  test(what, async () => {
    hosts.ip('a', `${words('add')} ${blocks}`);
    try {
      await hosts.until('a', 'it knows why', ({ sender }) => sender.why === why);
      await eventually('nothing gets past it', async () => pings(5).includes(' 0 received') || undefined);
    } finally {
      hosts.ip('a', words('del'));
    }
    await untilFramed();
    expect(pings(5)).toContain('5 received');
  });

test('a next hop that the kernel holds stale is used, and confirmed, as if the kernel sent all', async () => {
  const hop = ['10.0.1.1', 'dev', 'eth0'];
  const [lladdr] = /lladdr \S+/.exec(hosts.run('a', 'ip', 'neigh', 'show', ...hop))!;
  await untilFramed();
  hosts.ip('a', `neigh change ${hop.join(' ')} ${lladdr} nud stale`);
  const before = await counter('note_frames_packets');
  // Only what the kernel itself sends to a neighbour makes it ask.
  await eventually('the kernel asks for it', async () => {
    pings(5);
    return hosts.run('a', 'ip', 'neigh', 'show', ...hop, 'nud', 'stale') === '' ? true : undefined;
  });
  expect((await counter('note_frames_packets')) - before).toBeGreaterThan(0);
});

test('insisted on, such a rule is exit status 4, and the error names its chain', async () => {
  const rules = 'table inet pb { chain output { type filter hook output priority 0; ip protocol 4 drop; }; }';
  hosts.run('c', 'nft', rules);
  const refused = hosts.start('c', '--local', address('c'), '--sender', 'packet');
  expect(await refused.ended).toBe(4);
  expect(refused.log()).toMatch(/go around the firewall's chain inet pb output/);
});

test("rules about containers' addresses kept frames off, which no outer packet has (dockerd's MASQUERADE)", async () => {
  const nat =
    'chain postrouting { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }';
  hosts.run('c', 'nft', `flush ruleset; table ip nat { ${nat}; };`);
  const served = await hosts.serve('c', '--local', address('c'), '--sender', 'packet');
  hosts.configure('c', 'b');
  hosts.configure('b', 'a', 'c');
  await hosts.until('c', 'the rules were read', ({ sender }) => sender.why === null);
  served.process.kill('SIGTERM');
  expect(await served.ended).toBe(0);
});

const WITHOUT_PACKET_SOCKETS = [
  process.execPath,
  join(import.meta.dirname, '../helpers/without-packet-sockets.mjs'),
];

test('auto where packet sockets are forbidden (RestrictAddressFamilies=) ended with "errno 97": raw sockets carry', async () => {
  hosts.run('c', 'nft', 'flush', 'ruleset');
  await hosts.serveBy('c', WITHOUT_PACKET_SOCKETS, '--local', address('c'), '--sender', 'auto');
  hosts.configure('c', 'b');
  hosts.configure('b', 'a', 'c');
  await eventually('ping passes', async () =>
    hosts.ping('c', inner('b'), '-c', '1').includes('1 received') ? true : undefined,
  );
  expect((await hosts.status('c'))!.sender).toMatchObject({ why: 'the packet socket was refused' });
});
