/** The warm-up runs what real packets run through: nothing of it is dropped on the way. */
import { expect, test } from 'vitest';
import { conservationGap } from '../../../src/dataplane/counters.ts';
import { warmUpInbound, warmUpOutbound } from '../../../src/dataplane/warm-up.ts';

test.each(['ipip', 'udp'] as const)('by %s every packet of the warm-up is forwarded', (transport) => {
  const outbound = warmUpOutbound(transport);
  expect(outbound.outbound_in_device_packets).toBeGreaterThan(1000);
  expect(outbound.outbound_out_underlay_packets).toBe(outbound.outbound_in_device_packets);
  expect(outbound.outbound_in_device_superpackets).toBeGreaterThan(100);
  const inbound = warmUpInbound(transport);
  expect(inbound.inbound_in_underlay_packets).toBeGreaterThan(1000);
  expect(inbound.inbound_out_device_packets).toBe(inbound.inbound_in_underlay_packets);
  expect([conservationGap(outbound, 'outbound'), conservationGap(inbound, 'inbound')]).toEqual([0, 0]);
});
