/**
 * Two processes of one node, one that claims a block while the other releases it, in every order of their
 * datastore operations that changes between them up to three times: the affinity and the block must agree in the end, whoever was first.
 */
import { describe, expect, test } from 'vitest';
import { claimBlock, ownBlock, releaseBlock } from '../../src/control/block-claims.ts';
import { prefix } from '../../src/ip/prefix.ts';
import { isEmpty } from '../../src/ipam/block.ts';
import { decodeBlock } from '../../src/model/ipam-values.ts';
import { affinityKey, blockKey } from '../../src/model/keys.ts';
import { everyOrder, type Turn } from '../helpers/interleavings.ts';
import { IpamFixture } from '../helpers/ipam.ts';

const BLOCK = prefix('10.50.0.0/29');
const OTHER = 'node2';

/** A lost update needs two or three; each one more makes ten times as many orders. */
const SWITCHES = 3;

/** How the block was before: `held` has an address in use. */
const BEFORE = ['empty', 'held', 'half claimed', 'half released', 'block gone'] as const;

async function clusterWith(before: (typeof BEFORE)[number]): Promise<IpamFixture> {
  const fixture = new IpamFixture();
  await fixture.pool('small', { cidr: '10.50.0.0/27', blockSize: 29, ipipMode: 'Always' });
  for (const node of ['node1', OTHER]) await fixture.node(node);
  if (before !== 'half claimed') await claimBlock(fixture.ipam(), 'node1', BLOCK);
  if (before === 'held')
    await fixture.allocator().assign({ node: 'node1', handle: 'h', attributes: {}, address: BLOCK.address });
  const state = { 'half claimed': 'pending', 'half released': 'pendingDeletion' }[before as string];
  if (state) await fixture.put(affinityKey('node1', BLOCK), JSON.stringify({ state, deleted: false }));
  if (before === 'block gone') await fixture.remove(blockKey(BLOCK));
  return fixture;
}

function expectAgreement(fixture: IpamFixture): void {
  expect(fixture.problems()).toEqual([]);
  const text = fixture.content.values().get(blockKey(BLOCK));
  const block = text === undefined ? undefined : decodeBlock(text);
  // A block that is nobody's lives only for its addresses.
  if (block?.ok && block.value.affinity === null) expect(isEmpty(block.value)).toBe(false);
}

describe.each(BEFORE)('a block that is %s', (before) => {
  test.each(['empty', 'all'] as const)('claimed while it is released (%s)', async (which) => {
    const orders = await everyOrder(SWITCHES, async (run) => {
      const fixture = await clusterWith(before);
      await run(
        (turn: Turn) => claimBlock(fixture.ipam(turn), 'node1', BLOCK),
        (turn: Turn) => releaseBlock(fixture.ipam(turn), 'node1', BLOCK, which),
      );
      expectAgreement(fixture);
    });
    expect(orders).toBeGreaterThan(5);
  });

  test('found again while it is released', async () => {
    const orders = await everyOrder(SWITCHES, async (run) => {
      const fixture = await clusterWith(before);
      await run(
        (turn: Turn) => ownBlock(fixture.ipam(turn), 'node1', BLOCK),
        (turn: Turn) => releaseBlock(fixture.ipam(turn), 'node1', BLOCK, 'all'),
      );
      expectAgreement(fixture);
    });
    expect(orders).toBeGreaterThan(5);
  });

  test('claimed twice, by one node and by two', async () => {
    for (const other of ['node1', OTHER]) {
      const orders = await everyOrder(SWITCHES, async (run) => {
        const fixture = await clusterWith(before);
        await run(
          (turn: Turn) => claimBlock(fixture.ipam(turn), 'node1', BLOCK),
          (turn: Turn) => claimBlock(fixture.ipam(turn), other, BLOCK),
        );
        expectAgreement(fixture);
      });
      expect(orders).toBeGreaterThan(5);
    }
  });
});
