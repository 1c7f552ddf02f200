/**
 * Regression, do not tidy: with `rp_filter=2` on a tunnel device that has no address, the kernel drops every
 * decapsulated packet whose way back is plain (docs/adr/0006). Picture: small-cloud.ts.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pingAtOnce } from '../helpers/ping.ts';
import { eventually, SmallCloud, workloadAddress } from '../helpers/small-cloud.ts';

const cloud = new SmallCloud();

beforeAll(async () => {
  cloud.up();
  await cloud.seed('Always');
});
afterAll(() => cloud.down());

const filter = () => cloud.run('node1', 'cat', '/proc/sys/net/ipv4/conf/tunl0/rp_filter').trim();

const addresses = () => cloud.run('node1', 'ip', '-4', '-o', 'address', 'show', 'dev', 'tunl0');

test('a node without a tunnel address takes what a neighbour encapsulates', async () => {
  // node2 has not heard of the flip: its datastore is a copy from before.
  const before = join(cloud.directory, 'before');
  cpSync(join(cloud.directory, 'store'), before, { recursive: true });
  await cloud.setMode('Never');
  cloud.startAgent('node1');
  cloud.startAgent('node2', '--datastore', `file://${before}`);
  for (const name of ['node1', 'node2'] as const)
    await eventually(
      `${name} runs`,
      async () => (await cloud.status(name))?.state === 'running' || undefined,
    );

  await eventually('node1 gives its tunnel address back', async () => addresses() === '' || undefined);
  expect(cloud.routes('node1')).toContain('192.168.20.0/26 via 10.0.1.12 dev eth0');
  expect(cloud.routes('node2')).toContain('192.168.10.0/26 via 10.0.1.11 dev tunl0 onlink');
  expect(cloud.run('w2', ...pingAtOnce('-c', '3', workloadAddress('node1')))).toMatch(/3 received/);
  expect(filter()).toBe('0');

  await cloud.inForce(await cloud.setMode('Always'), ['node1']);
  await eventually('node1 has an address and filters loosely', async () =>
    addresses() !== '' && filter() === '2' ? true : undefined,
  );
});
