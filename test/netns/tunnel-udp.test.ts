/** `tunnel run --transport udp` on real packets: UDP and nothing else leaves, whatever the route says. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { ipv4In } from '../helpers/frames.ts';
import { inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('td');
const PROTOCOL_UDP = 17;

beforeAll(async () => {
  hosts.up();
  await Promise.all([hosts.serve('a', '--transport', 'udp'), hosts.serve('b', '--transport', 'udp')]);
  hosts.configure('a', 'b');
  hosts.configure('b', 'a');
});

afterAll(async () => {
  await hosts.down();
});

test('a gateway is reached by UDP; a route without one is told, and what it attracts is counted, not sent as protocol 4', async () => {
  const capture = openCapture({ netnsPath: namedNetworkNamespace(hosts.namespace('r')), interface: 'to-a' });
  try {
    expect(hosts.ping('a', inner('b'), '-c', '2')).toContain('2 received');
    hosts.ip('a', 'route add 203.0.113.9/32 dev tunl0');
    const told = await hosts.status('a');
    expect(told?.warnings).toEqual([expect.stringMatching(/1 prefixes have a route without gateway.*203\./)]);
    hosts.ping('a', '203.0.113.9', '-c', '3', '-W', '1');
    const { counters } = await hosts.until(
      'a',
      'the drops are counted',
      (s) => (s.counters.outbound_drop_no_transport_packets ?? 0) >= 3,
    );
    expect(counters.outbound_drop_no_transport_packets).toBe(3);
    const packets = capture.read().flatMap(({ bytes }) => ipv4In(bytes) ?? []);
    // Requests that leave together are one datagram here, still to be segmented.
    expect(packets.length).toBeGreaterThanOrEqual(2);
    expect(new Set(packets.map((packet) => packet[9]))).toEqual(new Set([PROTOCOL_UDP]));
  } finally {
    capture.close();
  }
});
