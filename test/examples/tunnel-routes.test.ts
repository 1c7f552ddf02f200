/** Others than Calico that put routes on a tunl0: the script of examples/, and Kilo's layout of tables and rules. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../helpers/small-cloud.ts';
import { address, block, type Host, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const SCRIPT = join(import.meta.dirname, '../../examples/script/tunnel-routes');
const hosts = new TunnelHosts('tx');
const file = join(hosts.directory, 'hosts');

beforeAll(async () => {
  hosts.up();
  await Promise.all([hosts.serve('a'), hosts.serve('b')]);
});
afterAll(() => hosts.down());

/** Writes the list and runs the script on each host of it. */
function route(...listed: readonly Host[]): void {
  writeFileSync(file, listed.map((host) => `${address(host)} ${block(host)}\n`).join(''));
  for (const host of listed) hosts.run(host, SCRIPT, file);
}

const passes = (from: Host, to: string, ...words: string[]) =>
  eventually(`${from} reaches ${to}`, async () =>
    hosts.ping(from, to, '-c', '1', ...words).includes('1 received') ? true : undefined,
  );

test('tunnel-routes: a list of hosts is an overlay; what leaves the list loses its route; again changes nothing', async () => {
  route('a', 'b');
  await passes('a', inner('b'));
  await passes('b', inner('a'));
  const routes = () => hosts.run('a', 'ip', 'route', 'show', 'proto', '99');
  const before = routes();
  expect(before).toContain(`${block('b')} via ${address('b')} dev tunl0 onlink`);
  route('a', 'b');
  expect(routes()).toBe(before);
  route('a');
  expect(routes().trim()).toBe(`blackhole ${block('a')}`);
  expect(() => hosts.run('c', SCRIPT, file)).toThrow(/no address of this host/);
});

test('Kilo: a node’s own address through the device in a table of its own, for what comes from pods', async () => {
  route('a', 'b');
  const between = [
    ['a', 'b'],
    ['b', 'a'],
  ] as const;
  for (const [host, other] of between)
    hosts.ip(
      host,
      `route add ${address(other)}/32 via ${address(other)} dev tunl0 onlink proto static table 1107`,
      `rule add from ${block(host)} to ${address(other)}/32 lookup 1107`,
    );
  const before = (await hosts.status('a'))!;
  await passes('a', address('b'), '-I', inner('a'));
  // The request is wrapped by the table of its own, the answer by the route to the block.
  const after = await hosts.until('a', 'both counted', ({ counters }) =>
    ['outbound_out_underlay_packets', 'inbound_out_device_packets'].every(
      (name) => counters[name]! > before.counters[name]!,
    ),
  );
  expect(after.counters.outbound_drop_loop_nested_packets).toBe(0);
  // What the host itself sends there stays plain.
  expect(hosts.ping('a', address('b'), '-c', '1')).toContain('1 received');
  expect(await hosts.status('a')).toMatchObject({
    counters: { outbound_out_underlay_packets: after.counters.outbound_out_underlay_packets },
  });
});
