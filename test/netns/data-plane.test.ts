/** The data plane on real packets: two nodes with TUNs and raw sockets, a router between them. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { conservationGaps, makeTwoNodes, NO_GAPS, type TwoNodes, WORKLOAD_B } from '../helpers/two-nodes.ts';

let nodes: TwoNodes;

beforeAll(async () => {
  nodes = await makeTwoNodes('dp');
});

afterAll(async () => {
  await nodes?.close();
});

afterEach(() => {
  expect(conservationGaps(nodes)).toEqual(NO_GAPS);
});

test('ping passes through both data planes', () => {
  const output = nodes.run(nodes.a, 'ping', '-c', '5', '-i', '0.05', '-W', '5', WORKLOAD_B);
  expect(output).toContain('5 received');
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
