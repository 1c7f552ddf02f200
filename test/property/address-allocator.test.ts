/** Many allocators on one datastore, their operations interleaved at random: what one history may not do. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { AddressAllocator } from '../../src/control/address-allocator.ts';
import { formatIpv4, parseIpv4 } from '../../src/ip/ipv4.ts';
import { inOrder } from '../helpers/interleavings.ts';
import { IpamFixture } from '../helpers/ipam.ts';

const NODES = ['node1', 'node2', 'node3'];

type Step =
  | { readonly do: 'assign'; readonly handle: number; readonly count: number }
  | { readonly do: 'address'; readonly handle: number; readonly ordinal: number }
  | { readonly do: 'release-handle'; readonly handle: number }
  | { readonly do: 'release-address'; readonly ordinal: number }
  | { readonly do: 'tunnel' }
  | { readonly do: 'release-empty' }
  | { readonly do: 'release-affinities' };

const handle = fc.nat(4);
const ordinal = fc.nat(31);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('assign'), handle, count: fc.integer({ min: 1, max: 6 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('address'), handle, ordinal }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('release-handle'), handle }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('release-address'), ordinal }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('tunnel') }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release-empty') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('release-affinities') }) },
) as fc.Arbitrary<Step>;

/** Several processes of several nodes, each with its own history. */
const histories = fc.array(
  fc.record({
    node: fc.constantFrom(...NODES),
    seed: fc.nat(2 ** 30),
    steps: fc.array(step, { maxLength: 10 }),
  }),
  { minLength: 2, maxLength: 6 },
);

function address(ordinal: number) {
  const parsed = parseIpv4(`10.50.0.${ordinal}`);
  if (parsed === undefined) throw new Error('bug: not an address');
  return parsed;
}

async function perform(allocator: AddressAllocator, node: string, one: Step): Promise<void> {
  const name = `${node}-${'handle' in one ? one.handle : ''}`;
  const request = { node, handle: name, attributes: { pod: name } };
  switch (one.do) {
    case 'assign':
      await allocator.assignMany(request, one.count);
      return;
    case 'address':
      await allocator.assign({ ...request, address: address(one.ordinal) }).catch(inUseOnly);
      return;
    case 'release-handle':
      await allocator.releaseByHandle(name);
      return;
    case 'release-address':
      await allocator.releaseAddress(address(one.ordinal));
      return;
    case 'tunnel':
      await allocator.assignTunnelAddress(node).catch(inUseOnly);
      return;
    case 'release-empty':
      await allocator.releaseAffinities(node, 'empty');
      return;
    case 'release-affinities':
      await allocator.releaseAffinities(node, 'all');
      return;
  }
}

function inUseOnly(error: { code?: string }): void {
  if (error.code !== 'ERR_ADDRESS_IN_USE' && error.code !== 'ERR_NO_FREE_ADDRESS') throw error;
}

async function cluster(): Promise<IpamFixture> {
  const fixture = new IpamFixture();
  await fixture.pool('small', { cidr: '10.50.0.0/27', blockSize: 29, ipipMode: 'Always' });
  for (const node of NODES) await fixture.node(node);
  return fixture;
}

test('no history leaves blocks, affinities and handles at odds', async () => {
  await fc.assert(
    fc.asyncProperty(histories, async (all) => {
      const fixture = await cluster();
      await Promise.all(
        all.map(async ({ node, seed, steps }) => {
          const allocator = fixture.allocator(seed);
          for (const one of steps) await perform(allocator, node, one);
        }),
      );
      expect(fixture.problems()).toEqual([]);
    }),
    { numRuns: 120 },
  );
});

test('no address is given twice, and none is lost', async () => {
  const seeds = fc.array(fc.nat(2 ** 30), { minLength: 2, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(seeds, fc.integer({ min: 1, max: 7 }), async (all, each) => {
      const fixture = await cluster();
      const given = await Promise.all(
        all.map(async (seed, index) => {
          const node = NODES[index % NODES.length] ?? '';
          const request = { node, handle: `h${index}`, attributes: {} };
          const allocator = fixture.allocator(seed);
          const found: string[] = [];
          for (let i = 0; i < each; i++)
            found.push(...(await allocator.assignMany(request, 1)).map((one) => formatIpv4(one.address)));
          return found;
        }),
      );
      const addresses = given.flat();
      expect(new Set(addresses).size).toBe(addresses.length);
      expect(addresses.length).toBe(Math.min(32, all.length * each));
      expect([...fixture.allocated().keys()].sort()).toEqual(addresses.sort());
      expect(fixture.problems()).toEqual([]);
      await Promise.all(all.map((seed, index) => fixture.allocator(seed).releaseByHandle(`h${index}`)));
      expect(fixture.allocated().size).toBe(0);
      expect([...fixture.content.values().keys()].filter((key) => key.includes('/handle/'))).toEqual([]);
    }),
    { numRuns: 60 },
  );
});

const schedules = fc.array(fc.boolean(), { minLength: 40, maxLength: 40 });

test('a block that one process releases and another of the same node wants back has one fate', async () => {
  await fc.assert(
    fc.asyncProperty(
      schedules,
      fc.constantFrom('all' as const, 'empty' as const),
      async (schedule, which) => {
        const fixture = await cluster();
        const request = { node: 'node1', handle: 'h', attributes: {} };
        await fixture.allocator().assign(request);
        await fixture.allocator().releaseByHandle('h');
        await inOrder(
          schedule,
          (turn) => fixture.allocator(turn).releaseAffinities('node1', which),
          (turn) => fixture.allocator(turn).assign(request),
        );
        expect(fixture.problems()).toEqual([]);
        expect(fixture.allocated().size).toBe(1);
      },
    ),
    { numRuns: 400 },
  );
});
