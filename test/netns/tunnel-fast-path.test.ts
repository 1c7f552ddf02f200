/** `tunnel run --fast-path ebpf`: what the kernel's routes say is in the maps as soon as in the slow path's table. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { address, block, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('tf');

beforeAll(async () => {
  hosts.up();
  const flags = (host: 'a' | 'b') => ['--local', address(host), '--fast-path', 'ebpf'];
  await Promise.all([hosts.serve('a', ...flags('a')), hosts.serve('b', ...flags('b')), hosts.serve('c')]);
  hosts.configure('a', 'b', 'c');
  hosts.configure('b', 'a', 'c');
  hosts.configure('c', 'a', 'b');
});
afterAll(() => hosts.down());

const fast = async (host: 'a' | 'b' | 'c', direction: 'outbound' | 'inbound') =>
  (await hosts.status(host))!.counters[`${direction}_note_fast_packets`];

test('a route put on the device is followed by the fast path, and its removal too', async () => {
  await hosts.until('a', 'the routes are in force', (s) => s.entries === 2);
  await hosts.until('b', 'the routes are in force', (s) => s.entries === 2);
  expect((await hosts.status('a'))!.fastPath).toEqual({ outbound: null, inbound: null });
  expect(hosts.ping('a', inner('b'), '-c', '5')).toContain('5 received');
  expect([await fast('a', 'outbound'), await fast('b', 'inbound')]).toEqual([5, 5]);
  // The other end is a host without the fast path.
  expect(hosts.ping('a', inner('c'), '-c', '5')).toContain('5 received');
  expect([await fast('a', 'outbound'), await fast('a', 'inbound')]).toEqual([10, 10]);
  hosts.ip('a', `route del ${block('b')}`);
  await hosts.until('a', 'the route is gone', (s) => s.entries === 1);
  hosts.ip('a', `route add ${block('b')} via ${address('b')} dev tunl0 onlink`);
  expect(hosts.ping('a', inner('b'), '-c', '5')).toContain('5 received');
  expect(await hosts.gaps()).toEqual({});
});
