import { beforeEach, expect, test } from 'vitest';
import { formatIpv4, ipv4 } from '../../../src/ip/ipv4.ts';
import { prefix } from '../../../src/ip/prefix.ts';
import { affinityKey, blockKey, IPAM_CONFIG, resourceKey } from '../../../src/model/keys.ts';
import { IpamFixture } from '../../helpers/ipam.ts';

const POOL = { cidr: '10.50.0.0/26', blockSize: 29, ipipMode: 'Always' };

let fixture: IpamFixture;

beforeEach(async () => {
  fixture = new IpamFixture();
  await fixture.pool('small', POOL);
  for (const node of ['node1', 'node2']) await fixture.node(node, { labels: { zone: node } });
});

function assign(node: string, count: number, handle = node, extra = {}) {
  return fixture.allocator().assignMany({ node, handle, attributes: {}, ...extra }, count);
}

test('own blocks, then new ones, then others: and none twice', async () => {
  expect(await assign('node1', 60)).toHaveLength(60);
  expect(await assign('node2', 10)).toHaveLength(4);
  expect(await assign('node2', 1)).toEqual([]);
  expect(fixture.allocated().size).toBe(64);
  expect(fixture.problems()).toEqual([]);
});

test('a released address goes to the end of the queue', async () => {
  const [first] = await assign('node1', 1, 'a');
  await fixture.allocator().releaseByHandle('a');
  const seen = (await assign('node1', 8, 'b')).map(({ address }) => address);
  expect(seen.slice(0, 7)).not.toContain(first?.address);
  expect(seen[7]).toBe(first?.address);
});

test('strict affinity does not borrow', async () => {
  await fixture.put(IPAM_CONFIG, '{"strict_affinity":true,"auto_allocate_blocks":true,"new":1}');
  await assign('node1', 8 * 8 - 1);
  await expect(
    fixture.allocator().assign({ node: 'node2', handle: 'x', attributes: {} }),
  ).rejects.toMatchObject({
    code: 'ERR_NO_FREE_ADDRESS',
    message: expect.stringContaining('strict affinity'),
  });
});

test('no more blocks than configured, and none where blocks are given out by hand', async () => {
  await fixture.put(IPAM_CONFIG, '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":2}');
  expect(await assign('node1', 40)).toHaveLength(16);
  await expect(
    fixture.allocator().assign({ node: 'node1', handle: 'x', attributes: {} }),
  ).rejects.toMatchObject({
    code: 'ERR_NO_FREE_ADDRESS',
    message: expect.stringContaining('as many blocks as a node may have, 2'),
    hint: expect.stringContaining('--max-blocks-per-host=4'),
  });
  await fixture.put(IPAM_CONFIG, '{"auto_allocate_blocks":false}');
  const [borrowed] = await assign('node2', 1);
  expect(borrowed).toBeUndefined();
});

test('reserved addresses are not handed out, but may be asked for', async () => {
  const spec = { reservedCIDRs: ['10.50.0.0/27', '10.50.0.40'] };
  const value = { kind: 'IPReservation', apiVersion: 'projectcalico.org/v3', metadata: { name: 'r' }, spec };
  await fixture.put(resourceKey('IPReservation', 'r'), JSON.stringify(value));
  const given = await assign('node1', 64);
  expect(given).toHaveLength(31);
  expect(given.every(({ address }) => address >= ipv4('10.50.0.32') && address !== ipv4('10.50.0.40'))).toBe(
    true,
  );
  const asked = { node: 'node1', handle: 'x', attributes: {}, address: ipv4('10.50.0.40') };
  expect((await fixture.allocator().assign(asked)).address).toBe(ipv4('10.50.0.40'));
});

test.each([
  ['disabled', { disabled: true }],
  ['by hand', { assignmentMode: 'Manual' }],
  ['for tunnels only', { allowedUses: ['Tunnel'] }],
  ["of another zone's nodes", { nodeSelector: "zone == 'elsewhere'" }],
])('a pool that is %s gives nothing by itself', async (_what, change) => {
  await fixture.pool('small', { ...POOL, ...change });
  await expect(assign('node1', 1)).rejects.toMatchObject({ code: 'ERR_NO_POOL' });
});

test('a pool asked for by name is used whatever its selector', async () => {
  await fixture.pool('other', {
    cidr: '10.70.0.0/26',
    nodeSelector: "zone == 'elsewhere'",
    assignmentMode: 'Manual',
  });
  const [one] = await assign('node1', 1, 'x', { pools: ['other'] });
  expect(formatIpv4(one?.address ?? 0)).toMatch(/^10\.70\.0\./);
  await expect(assign('node1', 1, 'x', { pools: ['absent'] })).rejects.toMatchObject({ code: 'ERR_NO_POOL' });
});

test('one address by name: refused outside of pools, where it is held, and on no node', async () => {
  const want = (address: string, node = 'node1') =>
    fixture.allocator().assign({ node, handle: 'h', attributes: {}, address: ipv4(address) });
  expect((await want('10.50.0.13')).block).toEqual(prefix('10.50.0.8/29'));
  await expect(want('10.50.0.13', 'node2')).rejects.toMatchObject({
    code: 'ERR_ADDRESS_IN_USE',
    message: '10.50.0.13 is in use by h on node node1',
  });
  await expect(want('192.0.2.1')).rejects.toMatchObject({ code: 'ERR_ADDRESS_NOT_IN_POOL', exitCode: 3 });
  await expect(want('10.50.0.14', 'node9')).rejects.toMatchObject({ code: 'ERR_NO_SUCH_NODE' });
});

test('what a dead process left is finished or cleaned', async () => {
  const block = prefix('10.50.0.8/29');
  await fixture.put(affinityKey('node1', block), '{"state":"pending","deleted":false}');
  await assign('node1', 1);
  expect(fixture.content.values().get(affinityKey('node1', block))).toBe(
    '{"state":"confirmed","deleted":false}',
  );
  // The block says node1: an affinity of node2 to it is stale.
  await fixture.put(affinityKey('node2', block), '{"state":"confirmed","deleted":false}');
  await assign('node2', 1);
  expect(fixture.content.values().has(affinityKey('node2', block))).toBe(false);
  expect(fixture.problems()).toEqual([]);
});

test('a block that cannot be read is left alone, and the others serve', async () => {
  const block = prefix('10.50.0.8/29');
  await fixture.put(blockKey(block), '{"cidr":"10.50.0.8/29","allocations":"all"}');
  expect(await assign('node1', 64)).toHaveLength(56);
  expect(fixture.content.values().get(blockKey(block))).toContain('"all"');
});

test('fields that we do not know survive an assignment', async () => {
  const [{ block } = { block: prefix('10.50.0.0/29') }] = await assign('node1', 1);
  const text = fixture.content.values().get(blockKey(block)) ?? '';
  await fixture.put(blockKey(block), text.replace('"deleted":false', '"deleted":false,"later":{"n":1}'));
  await assign('node1', 1, 'x');
  expect(fixture.content.values().get(blockKey(block))).toContain('"later":{"n":1}');
});

test("a deleted pool's blocks become nobody's, and go with their last address", async () => {
  await assign('node1', 1, 'a');
  await assign('node2', 1, 'b');
  await fixture.allocator().releaseByHandle('b');
  await fixture.allocator().releasePoolAffinities(prefix(POOL.cidr));
  const blocks = () => [...fixture.content.values().keys()].filter((key) => key.includes('/assignment/'));
  expect(blocks()).toHaveLength(1);
  await fixture.allocator().releaseByHandle('a');
  expect(blocks()).toHaveLength(0);
});
