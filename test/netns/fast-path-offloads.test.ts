/** Every byte of a stream arrives, whatever the cards' offloads and MTU, with the fast path at both ends or at one. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { quicken } from '../helpers/fast-planes.ts';
import { transfer } from '../helpers/tcp-transfer.ts';
import {
  configOf,
  makeTwoNodes,
  NO_GAPS,
  settledGaps,
  type TwoNodes,
  WORKLOAD_A,
  WORKLOAD_B,
} from '../helpers/two-nodes.ts';

/** Of tso, gso, gro, MTU and ends, every pair of values is in one of these. */
const COMBINATIONS = [
  { mtu: 1500, ends: 'ab', tso: 'on', gso: 'on', gro: 'off' },
  { mtu: 1500, ends: 'a', tso: 'on', gso: 'off', gro: 'on' },
  { mtu: 1500, ends: 'b', tso: 'off', gso: 'on', gro: 'on' },
  { mtu: 9001, ends: 'ab', tso: 'off', gso: 'off', gro: 'on' },
  { mtu: 9001, ends: 'a', tso: 'off', gso: 'on', gro: 'off' },
  { mtu: 9001, ends: 'b', tso: 'on', gso: 'off', gro: 'off' },
] as const;

describe.each([1500, 9001])('MTU %i', (mtu) => {
  let nodes: TwoNodes;
  beforeAll(async () => {
    nodes = await makeTwoNodes(`fo${mtu}`, { mtu });
  });
  afterAll(() => nodes?.close());
  afterEach(async () => {
    expect(await settledGaps(nodes)).toEqual(NO_GAPS);
    for (const node of ['a', 'b'] as const) {
      await nodes.planes[node].stop();
      await nodes.restart(node);
    }
  });

  test.each(COMBINATIONS.filter((c) => c.mtu === mtu))('%o', async ({ ends, ...offloads }) => {
    const words = (['tso', 'gso', 'gro'] as const).flatMap((name) => [name, offloads[name]]);
    for (const node of ['a', 'b'] as const) nodes.run(nodes[node], 'ethtool', '-K', 'eth0', ...words);
    for (const node of [...ends] as ('a' | 'b')[]) {
      const config = configOf(node);
      const peers = config.peers.map((peer) => ({ ...peer, mtu: mtu as UnderlayMtu }));
      await quicken(nodes, node, { ...config, peers });
    }
    const a = { from: nodes.a, fromAddress: WORKLOAD_A, to: nodes.b, toAddress: WORKLOAD_B };
    const b = { from: nodes.b, fromAddress: WORKLOAD_B, to: nodes.a, toAddress: WORKLOAD_A };
    expect((await transfer({ ...a, chunks: 100 })).intact).toBe(true);
    expect((await transfer({ ...b, chunks: 100 })).intact).toBe(true);
    for (const node of [...ends] as ('a' | 'b')[]) {
      const counters = nodes.planes[node].counters();
      // 100 times 64 KB in segments of less than the MTU, and acknowledgements.
      expect(counters.outbound_note_fast_packets).toBeGreaterThan((100 * 65536) / mtu);
      expect(counters.outbound_note_fast_packets).toBe(counters.outbound_out_underlay_packets);
      expect(counters.inbound_note_fast_packets).toBe(counters.inbound_out_device_packets);
    }
  });
});
