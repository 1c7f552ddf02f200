/** The data plane on real packets: two nodes with TUNs and raw sockets, a router between them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { type Capture, openCapture } from '../../src/io/capture.ts';
import { systemCalls } from '../../src/io/libc.ts';
import { inNetworkNamespace, namedNetworkNamespace } from '../../src/io/netns.ts';
import { openRawSender } from '../../src/io/raw-socket.ts';
import { socketAddress } from '../../src/io/socket-options.ts';
import { type Ipv4, ipv4 } from '../../src/ip/ipv4.ts';
import { ipv4In } from '../helpers/frames.ts';
import { ipv4Packet, udpPacket } from '../helpers/packets.ts';
import { pingAtOnce } from '../helpers/ping.ts';
import { transfer } from '../helpers/tcp-transfer.ts';
import {
  ip,
  makeTwoNodes,
  NO_GAPS,
  NODE_A,
  NODE_B,
  printed,
  settledGaps,
  type TwoNodes,
  WORKLOAD_A,
  WORKLOAD_B,
} from '../helpers/two-nodes.ts';

/** One way only: a smaller MTU on the link itself would also drop what comes back. */
const NARROW_WAY_TO_B = ['route', 'replace', `${NODE_B}/32`, 'dev', 'to-b', 'mtu', 'lock', '1400'];

let nodes: TwoNodes;

beforeAll(async () => {
  nodes = await makeTwoNodes('dp');
});

afterAll(async () => {
  await nodes?.close();
});

afterEach(async () => {
  expect(await settledGaps(nodes)).toEqual(NO_GAPS);
});

const ping = (...words: string[]) => nodes.run(nodes.a, ...pingAtOnce(...words, WORKLOAD_B));
/** One after the other, so that the second knows of the first; ping exits with 1 where answers are missing. */
const failedPing = (...words: string[]) => printed(() => ping(...words));
const capture = (namespace: string, name: string) =>
  openCapture({ netnsPath: namedNetworkNamespace(namespace), interface: name });

/** Everything captured until `wanted` frames of interest are there. */
async function collect(source: Capture, wanted: number, of: (bytes: Uint8Array) => Uint8Array | undefined) {
  const found: string[] = [];
  await poll(systemClock, 5000, 10, async () => {
    for (const frame of source.read()) {
      const bytes = of(frame.bytes);
      if (bytes) found.push(Buffer.from(bytes).toString('hex'));
    }
    return found.length >= wanted ? true : undefined;
  });
  return found;
}

test('ping passes through both data planes', async () => {
  expect(ping('-c', '5')).toContain('5 received');
  await settledGaps(nodes);
  expect(nodes.planes.a.counters()).toMatchObject({
    outbound_in_device_packets: 5,
    outbound_out_underlay_packets: 5,
    inbound_in_underlay_packets: 5,
    inbound_out_device_packets: 5,
  });
  expect(nodes.planes.a.peers()).toMatchObject([
    { outboundPackets: 5, inboundPackets: 5, inboundSpoofed: 0 },
  ]);
});

test('inner packets arrive byte for byte, behind 20 bytes of outer header on the underlay', async () => {
  const captures = [capture(nodes.a, 'tunl0'), capture(nodes.router, 'to-b'), capture(nodes.b, 'tunl0')];
  try {
    ping('-c', '3', '-s', '700', '-p', '746f72746965');
    const isEcho = (bytes: Uint8Array, at: number) => bytes[at + 9] === 1 && bytes[at + 20] === 8;
    const inner = (bytes: Uint8Array) => (isEcho(bytes, 0) ? bytes : undefined);
    const wrapped = (bytes: Uint8Array) => {
      const packet = ipv4In(bytes);
      return packet?.[9] === 4 && isEcho(packet, 20) ? packet.subarray(20) : undefined;
    };
    const [sent, underway, received] = await Promise.all([
      collect(captures[0]!, 3, inner),
      collect(captures[1]!, 3, wrapped),
      collect(captures[2]!, 3, inner),
    ]);
    expect(sent).toHaveLength(3);
    expect(underway).toEqual(sent);
    expect(received).toEqual(sent);
  } finally {
    for (const each of captures) each.close();
  }
});

test('tcpdump finds nothing wrong with what is on the underlay', async () => {
  const words = ['netns', 'exec', nodes.router, 'tcpdump', '-i', 'to-b', '-nvvvl', '-c', '4', 'ip proto 4'];
  const tcpdump = spawn('ip', words, { timeout: 20_000 });
  let text = '';
  tcpdump.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await once(tcpdump.stderr, 'data');
  ping('-c', '2');
  await once(tcpdump, 'close');
  expect(text.match(/proto IPIP \(4\), length 104/g)).toHaveLength(4);
  expect(text.match(/ICMP echo (request|reply), id \d+, seq \d+, length 64/g)).toHaveLength(4);
  expect(text).not.toMatch(/bad|wrong|incorrect|truncated|trailing/);
});

test('TCP carries every byte, with the offloads of veth on and off', async () => {
  const flow = { from: nodes.a, fromAddress: WORKLOAD_A, to: nodes.b, toAddress: WORKLOAD_B, chunks: 64 };
  expect((await transfer(flow)).intact).toBe(true);
  for (const namespace of [nodes.a, nodes.b])
    nodes.run(
      namespace,
      'ethtool',
      '-K',
      'eth0',
      'tso',
      'off',
      'gso',
      'off',
      'gro',
      'off',
      'tx',
      'off',
      'rx',
      'off',
    );
  expect((await transfer(flow)).intact).toBe(true);
});

test('superpackets made by GRO on the underlay come out right', async () => {
  nodes.run(nodes.b, 'ethtool', '-K', 'eth0', 'gro', 'on', 'rx-udp-gro-forwarding', 'on');
  nodes.run(nodes.router, 'ethtool', '-K', 'to-b', 'tso', 'off');
  nodes.run(nodes.b, 'sh', '-c', 'echo 200000 > /sys/class/net/eth0/gro_flush_timeout');
  const flow = { from: nodes.a, fromAddress: WORKLOAD_A, to: nodes.b, toAddress: WORKLOAD_B, chunks: 128 };
  expect((await transfer(flow)).intact).toBe(true);
  expect(nodes.planes.b.counters().inbound_in_underlay_superpackets).toBeGreaterThan(0);
  nodes.run(nodes.b, 'ethtool', '-K', 'eth0', 'gro', 'off');
});

test('inner fragments pass, and so do outer fragments that the kernel reassembles', () => {
  expect(ping('-c', '2', '-s', '4000')).toContain('2 received');
  ip('-n', nodes.router, ...NARROW_WAY_TO_B);
  expect(ping('-c', '2', '-s', '1400', '-M', 'dont')).toContain('2 received');
  ip('-n', nodes.router, 'route', 'del', `${NODE_B}/32`);
});

test('packets that are not the sender’s to send are dropped and counted by reason and by peer', async () => {
  const socket = inNetworkNamespace(namedNetworkNamespace(nodes.router), openRawSender);
  const spoof = (outerSource: string, innerSource: string) => {
    const inner = udpPacket([1], { source: ipv4(innerSource), destination: ipv4(WORKLOAD_B) });
    const packet = ipv4Packet(4, [...inner], { source: ipv4(outerSource), destination: ipv4(NODE_B), id: 0 });
    const address = socketAddress(ipv4(NODE_B) as Ipv4);
    expect(systemCalls().sendto(socket, packet, packet.length, 0, address, 16)).toBe(packet.length);
  };
  try {
    spoof('10.0.1.99', WORKLOAD_A);
    spoof(NODE_A, '192.168.2.7');
    spoof(NODE_A, '203.0.113.5');
    const seen = await poll(systemClock, 5000, 10, async () => {
      const counters = nodes.planes.b.counters();
      return counters.inbound_drop_inner_source_unknown_packets === 1 ? counters : undefined;
    });
    expect(seen).toMatchObject({
      inbound_drop_outer_source_unknown_packets: 1,
      inbound_drop_inner_source_local_packets: 1,
    });
    await settledGaps(nodes);
    expect(nodes.planes.b.peers()[0]!.inboundSpoofed).toBe(2);
  } finally {
    systemCalls().close(socket);
  }
});

test('a path MTU on the way reaches the inner sender', () => {
  ip('-n', nodes.router, ...NARROW_WAY_TO_B);
  expect(failedPing('-c', '3', '-s', '1400', '-M', 'do')).toMatch(
    /Frag needed and DF set \(mtu = 1380\)|mtu=1380/,
  );
  expect(nodes.planes.a.peers()).toMatchObject([{ pathMtu: 1400 }]);
  expect(ping('-c', '2', '-s', '1352', '-M', 'do')).toContain('2 received');
  expect(ping('-c', '2', '-s', '1400', '-M', 'dont')).toContain('2 received');
});

test('changes are taken over by revision, and a gap is told', async () => {
  const { a } = nodes.planes;
  const entry = { prefix: { address: ipv4('192.168.2.0'), length: 26 }, nextHops: [ipv4(NODE_B)] };
  expect(a.revision).toBe(1);
  expect(await a.change({ revision: 3, operations: [] })).toBe('gap');
  expect(await a.change({ revision: 2, operations: [{ op: 'delete-entry', prefix: entry.prefix }] })).toBe(
    'applied',
  );
  expect(failedPing('-c', '1', '-W', '0.2')).toContain('100% packet loss');
  const dropped = () => a.counters().outbound_drop_no_route_packets;
  await poll(systemClock, 5000, 10, async () => dropped() !== 0 || undefined);
  expect(dropped()).toBe(1);
  expect(await a.change({ revision: 3, operations: [{ op: 'set-entry', entry }] })).toBe('applied');
  expect(ping('-c', '1')).toContain('1 received');
});

test('stopping leaves the device and its routes, and a new data plane takes them over', async () => {
  const { a } = nodes.planes;
  await a.stop();
  expect(ip('-n', nodes.a, 'route', 'show', 'dev', 'tunl0')).toContain('192.168.2.0/26');
  await nodes.restart('a');
  expect(ping('-c', '2')).toContain('2 received');
});
