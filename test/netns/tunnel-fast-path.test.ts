/** `tunnel run --fast-path ebpf`: what the kernel's routes say is in the maps as soon as in the slow path's table. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TunnelStatus } from '../../src/agent/status.ts';
import { eventually } from '../helpers/small-cloud.ts';
import { address, block, inner, TunnelHosts, type TunnelProcess } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('tf');

let c: TunnelProcess;

beforeAll(async () => {
  hosts.up();
  const flags = (host: 'a' | 'b') => ['--local', address(host), '--fast-path', 'ebpf'];
  [, , c] = await Promise.all([
    hosts.serve('a', ...flags('a')),
    hosts.serve('b', ...flags('b')),
    hosts.serve('c'),
  ]);
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

test('without --local the kernel chooses the outer source, and the fast path follows its choice', async () => {
  const [first] = hosts.run('c', 'sh', '-c', 'ip -4 route show default').split('\n') as [string];
  c.process.kill('SIGTERM');
  expect(await c.ended).toBe(0);
  c = await hosts.serve('c', '--fast-path', 'ebpf');
  const runs = ({ fastPath }: TunnelStatus) => fastPath.outbound === null && fastPath.inbound === null;
  const status = await hosts.until('c', 'both directions run', (s) => s.entries === 2 && runs(s));
  const before = status.counters;
  expect(hosts.ping('c', inner('a'), '-c', '5')).toContain('5 received');
  const carried = async () => {
    const { counters } = (await hosts.status('c'))!;
    return (['outbound', 'inbound'] as const).map(
      (direction) => counters[`${direction}_note_fast_packets`]! - before[`${direction}_note_fast_packets`]!,
    );
  };
  expect(await carried()).toEqual([5, 5]);
  // Another source: a knows no such peer, whichever path sends it.
  hosts.ip('c', 'addr add 10.0.3.77/24 dev eth0', `route replace ${first.trim()} src 10.0.3.77`);
  const drops = async () => {
    const { counters } = (await hosts.status('a'))!;
    return Object.entries(counters).reduce(
      (sum, [name, count]) => sum + (/^inbound_drop_.*source_.*_packets$/.test(name) ? count : 0),
      0,
    );
  };
  const dropped = await drops();
  await eventually('packets from the other source', async () => {
    hosts.ping('c', inner('a'), '-c', '1', '-w', '1');
    return (await drops()) > dropped || undefined;
  });
  hosts.ip('c', `route replace ${first.trim()}`, 'addr del 10.0.3.77/24 dev eth0');
  await eventually(
    'answers again',
    async () => hosts.ping('c', inner('a'), '-c', '1', '-w', '1').includes('1 received') || undefined,
  );
  // Once the firewall was asked about the addresses that are there now.
  await hosts.until('c', 'both directions run again', runs);
  expect(await hosts.gaps()).toEqual({});
});
