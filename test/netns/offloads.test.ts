/**
 * Every byte of a stream arrives, in both directions, whatever the offloads of each end's underlay (both ends of its
 * link), the MTU, and the way that the outer packets take. Every pair of values is in one of these; scripts/soak goes
 * through all combinations (TORTIE_TEST_OFFLOADS=all).
 */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { OVERHEAD_BYTES, type UnderlayMtu } from '../../src/ip/mtu.ts';
import { quicken } from '../helpers/fast-planes.ts';
import { pairwise, product, type Row } from '../helpers/pairwise.ts';
import { RandomStreamEnd } from '../helpers/random-streams.ts';
import {
  configOf,
  ip,
  makeTwoNodes,
  NO_GAPS,
  NODE_A,
  NODE_B,
  type Speech,
  settledGaps,
  type TwoNodes,
  WORKLOAD_A,
  WORKLOAD_B,
} from '../helpers/two-nodes.ts';

const BYTES = 64 << 20;
const DEADLINE_MS = 60_000;
const HELPER_LIMIT_BYTES = 16 << 10;
const STATES = ['on', 'off'] as const;
const FACTORS = {
  /** Raw sockets, frames of our own, datagrams, the fast path at both ends, and at a only. */
  way: ['raw', 'frames', 'udp', 'fast', 'fast to raw'],
  mtu: [1280, 1500, 9001, 65535],
  ...{ aTso: STATES, aGso: STATES, aGro: STATES, aTx: STATES },
  ...{ bTso: STATES, bGso: STATES, bGro: STATES, bTx: STATES },
} as const;

type Combination = Row<typeof FACTORS>;
type Offloads = Readonly<Record<'tso' | 'gso' | 'gro' | 'tx', 'on' | 'off'>>;

const ofA = ({ aTso, aGso, aGro, aTx }: Combination): Offloads => ({
  tso: aTso,
  gso: aGso,
  gro: aGro,
  tx: aTx,
});
const ofB = ({ bTso, bGso, bGro, bTx }: Combination): Offloads => ({
  tso: bTso,
  gso: bGso,
  gro: bGro,
  tx: bTx,
});
const shown = (offloads: Offloads) =>
  Object.entries(offloads)
    .filter(([, state]) => state === 'off')
    .map(([name]) => name)
    .join(' ') || 'nothing';

/** Without checksums the kernel does without TSO too. What has two equal ends needs each pair of settings once. */
function allDistinct(): Combination[] {
  return product(FACTORS).filter((one) => {
    if ((one.aTx === 'off' && one.aTso === 'on') || (one.bTx === 'off' && one.bTso === 'on')) return false;
    return one.way === 'fast to raw' || shown(ofA(one)) <= shown(ofB(one));
  });
}

const combinations = process.env.TORTIE_TEST_OFFLOADS === 'all' ? allDistinct() : pairwise(FACTORS);

describe.each(FACTORS.way)('%s', (way) => {
  const speech: Speech =
    way === 'udp' ? { transport: 'udp', udpPort: 5555 } : { transport: 'ipip', udpPort: 0 };
  const fastEnds = way === 'fast' ? (['a', 'b'] as const) : way === 'fast to raw' ? (['a'] as const) : [];
  let nodes: TwoNodes;
  let ends: { a: RandomStreamEnd; b: RandomStreamEnd };
  let revision = 1;

  beforeAll(async () => {
    nodes = await makeTwoNodes(`of${way.replaceAll(' ', '')}`, { speech, frames: way === 'frames' });
    const [a, b] = await Promise.all([
      RandomStreamEnd.open(nodes.a, WORKLOAD_A, BYTES),
      RandomStreamEnd.open(nodes.b, WORKLOAD_B, BYTES),
    ]);
    ends = { a, b };
    for (const node of fastEnds) await quicken(nodes, node, configOf(node));
    if (way === 'frames') for (const node of ['a', 'b'] as const) await frameWay(nodes, node);
  });
  afterAll(async () => {
    for (const end of Object.values(ends ?? {})) end.close();
    await nodes?.close();
  });
  afterEach(async () => {
    expect(await settledGaps(nodes)).toEqual(NO_GAPS);
  });

  /** The MTU of an end's link, device and table. */
  async function setMtu(node: 'a' | 'b', mtu: number): Promise<void> {
    ip('-n', nodes.router, 'link', 'set', `to-${node}`, 'mtu', `${mtu}`);
    ip('-n', nodes[node], 'link', 'set', 'eth0', 'mtu', `${mtu}`);
    ip('-n', nodes[node], 'link', 'set', 'tunl0', 'mtu', `${mtu - OVERHEAD_BYTES[speech.transport]}`);
    const config = configOf(node, { revision: ++revision }, speech);
    const peers = config.peers.map((peer) => ({ ...peer, mtu: mtu as UnderlayMtu }));
    await nodes.planes[node].replace({ ...config, peers } satisfies ForwardingConfig);
  }

  function setOffloads(node: 'a' | 'b', offloads: Offloads): void {
    const words = Object.entries(offloads).flat();
    nodes.run(nodes[node], 'ethtool', '-K', 'eth0', ...words);
    nodes.run(nodes.router, 'ethtool', '-K', `to-${node}`, ...words);
  }

  const named = combinations
    .filter((one) => one.way === way)
    .map((one) => [`MTU ${one.mtu}; without, a: ${shown(ofA(one))}, b: ${shown(ofB(one))}`, one] as const);

  test.each(named)('%s', async (_name, combination) => {
    setOffloads('a', ofA(combination));
    setOffloads('b', ofB(combination));
    await setMtu('a', combination.mtu);
    await setMtu('b', combination.mtu);
    const before = { a: nodes.planes.a.counters(), b: nodes.planes.b.counters() };
    for (const [from, to] of [
      [ends.a, ends.b],
      [ends.b, ends.a],
    ] as const) {
      const delivery = await from.sendTo(to, DEADLINE_MS);
      expect(delivery.received).toBe(delivery.sha256);
    }
    await settledGaps(nodes);
    for (const node of ['a', 'b'] as const) {
      const counters = nodes.planes[node].counters();
      const moved = (name: string) => counters[name]! - before[node][name]!;
      // In segments of less than the MTU, and acknowledgements.
      expect(moved('outbound_out_underlay_packets')).toBeGreaterThan(BYTES / combination.mtu);
      if (way === 'frames')
        expect(moved('outbound_note_frames_packets')).toBeGreaterThan(
          moved('outbound_out_underlay_packets') / 2,
        );
      if (!fastEnds.some((end) => end === node)) continue;
      // No helper of the kernel lengthens a packet of more than 16 KB that is no superpacket, and a superpacket of two
      // such segments has no length in its header: the programs leave both.
      if (combination.mtu > HELPER_LIMIT_BYTES) continue;
      expect(moved('outbound_note_fast_packets')).toBe(moved('outbound_out_underlay_packets'));
      expect(moved('inbound_note_fast_packets')).toBe(moved('inbound_out_device_packets'));
    }
  });
});

/** The other node by frames to the router; the product finds and follows that itself (sender.test.ts). */
async function frameWay(nodes: TwoNodes, node: 'a' | 'b'): Promise<void> {
  const mac = (namespace: string, link: string) => {
    const text = execFileSync('ip', ['-n', namespace, '-j', 'link', 'show', link], {
      encoding: 'utf8',
      timeout: 10_000,
    });
    const [{ address, ifindex }] = JSON.parse(text) as [{ address: string; ifindex: number }];
    return { bytes: address.split(':').map((byte) => Number.parseInt(byte, 16)), ifindex };
  };
  const own = mac(nodes[node], 'eth0');
  const header = Uint8Array.from([...mac(nodes.router, `to-${node}`).bytes, ...own.bytes, 8, 0]);
  const peer = ipv4(node === 'a' ? NODE_B : NODE_A);
  await nodes.planes[node].setFrameWays!([{ peer, interfaceIndex: own.ifindex, header }]);
}
