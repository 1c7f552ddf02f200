/** The `udp` transport on real packets: two nodes with TUNs and UDP sockets, a router between them. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { type Capture, openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { decodeFrame, ipv4Layers } from '../../src/wire/decode.ts';
import { ipv4In } from '../helpers/frames.ts';
import { pingAtOnce } from '../helpers/ping.ts';
import { transfer } from '../helpers/tcp-transfer.ts';
import {
  configOf,
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

const PORT = 5555;

let nodes: TwoNodes;

beforeAll(async () => {
  nodes = await makeTwoNodes('udp', { speech: { transport: 'udp', udpPort: PORT } });
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
const flow = (chunks: number) => ({
  ...{ from: nodes.a, fromAddress: WORKLOAD_A, to: nodes.b, toAddress: WORKLOAD_B, chunks },
});
const offloads = (state: 'on' | 'off') => {
  for (const namespace of [nodes.a, nodes.b]) {
    const words = ['tso', 'gso', 'gro', 'tx', 'rx'].flatMap((name) => [name, state]);
    nodes.run(namespace, 'ethtool', '-K', 'eth0', ...words);
  }
};

async function untilSeen(
  capture: Capture,
  wanted: (bytes: Uint8Array) => boolean,
): Promise<Uint8Array | undefined> {
  return poll(systemClock, 5000, 10, async () => {
    for (const { bytes } of capture.read()) if (wanted(bytes)) return bytes;
    return undefined;
  });
}

test('an echo crosses as the payload of a datagram, DSCP and ECN copied, DF set, port to port', async () => {
  const capture = openCapture({ netnsPath: namedNetworkNamespace(nodes.router), interface: 'to-b' });
  try {
    expect(ping('-c', '1', '-Q', '0xb9')).toContain('1 received');
    const frame = await untilSeen(capture, (bytes) => {
      const packet = ipv4In(bytes);
      return packet?.[9] === 17 && packet[28 + 20] === 8;
    });
    const [, outer, udp, inner, icmp] = decodeFrame(frame!);
    expect(outer).toMatchObject({ protocol: 17, tos: 0xb9, dontFragment: true, ttl: 63, totalLength: 112 });
    expect(udp).toMatchObject({ sourcePort: PORT, destinationPort: PORT, datagramLength: 92 });
    expect(inner).toMatchObject({ kind: 'ipv4', tos: 0xb9, totalLength: 84 });
    expect(icmp).toMatchObject({ kind: 'icmp', type: 8, checksum: 'ok' });
    expect(ipv4Layers(decodeFrame(frame!))).toHaveLength(2);
  } finally {
    capture.close();
  }
});

test('TCP carries every byte in superpackets, both in and out of them', async () => {
  const before = nodes.planes.b.counters();
  expect((await transfer(flow(128))).intact).toBe(true);
  const after = nodes.planes.b.counters();
  const moved = (name: string) => after[name]! - before[name]!;
  expect(moved('inbound_in_underlay_superpackets')).toBeGreaterThan(10);
  // 8 MB are 5,800 packets, and many of them come at once.
  expect(moved('inbound_in_underlay_packets') / moved('inbound_in_underlay_batches')).toBeGreaterThan(4);
});

test('TCP carries every byte over links without any offload', async () => {
  offloads('off');
  try {
    expect((await transfer(flow(64))).intact).toBe(true);
  } finally {
    offloads('on');
  }
});

test('a packet that fits the path by protocol 4 and not by UDP is answered with the MTU of UDP', () => {
  expect(failedPing('-c', '1', '-s', '1444', '-M', 'do')).toContain('1 received');
  ip('-n', nodes.a, 'link', 'set', 'tunl0', 'mtu', '1480');
  try {
    expect(failedPing('-c', '1', '-s', '1445', '-M', 'do')).toMatch(/mtu ?= ?1472/);
    // Without DF it is fragmented instead.
    expect(ping('-c', '2', '-s', '1445', '-M', 'dont')).toContain('2 received');
  } finally {
    nodes.run(nodes.a, 'ip', 'route', 'flush', 'cache');
    ip('-n', nodes.a, 'link', 'set', 'tunl0', 'mtu', '1472');
  }
});

test('a narrower path is learned from ICMP about datagrams, told to senders and kept to', async () => {
  const route = ['-n', nodes.router, 'route', 'replace', `${NODE_B}/32`, 'dev', 'to-b'];
  ip(...route, 'mtu', 'lock', '1400');
  try {
    const hint = await poll(systemClock, 10_000, 50, async () => {
      const said = failedPing('-c', '2', '-s', '1400', '-M', 'do');
      return /mtu ?= ?1372/.test(said) ? said : undefined;
    });
    expect(hint).toBeDefined();
    expect(nodes.planes.a.peers()).toMatchObject([{ pathMtu: 1400 }]);
    nodes.run(nodes.a, 'ip', 'route', 'flush', 'cache');
    expect((await transfer(flow(16))).intact).toBe(true);
    expect(ping('-c', '2', '-s', '1400', '-M', 'dont')).toContain('2 received');
  } finally {
    ip('-n', nodes.router, 'route', 'del', `${NODE_B}/32`);
  }
});

test('sources are checked as strictly as by protocol 4', async () => {
  const before = nodes.planes.b.counters();
  // A node that B does not know, and a workload of another node's block.
  await nodes.planes.b.replace(configOf('b', { revision: 2, peers: [], sources: [] }));
  // What a deleted node has in flight is taken for a second more.
  await poll(systemClock, 10_000, 10, async () => {
    const said = failedPing('-c', '2', '-W', '0.2');
    const after = nodes.planes.b.counters().inbound_drop_outer_source_unknown_packets!;
    return after >= before.inbound_drop_outer_source_unknown_packets! + 2 ? said : undefined;
  });
  await nodes.planes.b.replace(configOf('b', { revision: 3 }, { transport: 'udp', udpPort: PORT }));
  nodes.run(nodes.a, 'ip', 'addr', 'add', '192.168.2.9/32', 'dev', 'lo');
  try {
    failedPing('-c', '2', '-W', '1', '-I', '192.168.2.9');
    const spoofed = () =>
      nodes.planes.b.counters().inbound_drop_inner_source_local_packets! -
      before.inbound_drop_inner_source_local_packets!;
    await poll(systemClock, 5000, 10, async () => spoofed() >= 2 || undefined);
    expect(spoofed()).toBe(2);
  } finally {
    nodes.run(nodes.a, 'ip', 'addr', 'del', '192.168.2.9/32', 'dev', 'lo');
  }
  expect(ping('-c', '2')).toContain('2 received');
});

test('nobody on the port: the host is unreachable to the inner sender', async () => {
  await nodes.planes.b.stop();
  try {
    const said = await poll(systemClock, 5000, 10, async () => {
      const text = failedPing('-c', '3', '-W', '1');
      return /Host Unreachable/.test(text) ? text : undefined;
    });
    expect(said).toContain(`From ${NODE_A}`);
  } finally {
    await nodes.restart('b');
  }
  expect(ping('-c', '2')).toContain('2 received');
});
