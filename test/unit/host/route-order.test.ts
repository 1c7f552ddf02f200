import fc from 'fast-check';
import { expect, test } from 'vitest';
import { byNextHop, type RouteStep } from '../../../src/host/kernel-routes.ts';
import { ipv4, ipv4FromNumber } from '../../../src/ip/ipv4.ts';
import { prefixOf } from '../../../src/ip/prefix.ts';

const BLOCKS = ipv4('10.128.0.0');
const PEERS = ipv4('250.0.0.0');

const step = fc.record({
  block: fc.nat(500),
  kind: fc.constantFrom('set', 'blackhole', 'delete'),
  peer: fc.nat(5),
});

function stepOf({ block, kind, peer }: { block: number; kind: string; peer: number }): RouteStep {
  const prefix = prefixOf(BLOCKS + block * 64, 26);
  if (kind === 'delete') return { op: 'delete-route', prefix };
  if (kind === 'blackhole') return { op: 'set-route', route: { type: 'blackhole', prefix } };
  return {
    op: 'set-route',
    route: { type: 'encapsulated', prefix, via: ipv4FromNumber(PEERS + peer), device: 'tunl0' },
  };
}

test('the kernel gets all routes, those by one next hop together, and then all deletions', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (drawn) => {
      const steps = drawn.map(stepOf);
      const ordered = byNextHop(steps);
      expect(new Set(ordered)).toEqual(new Set(steps));
      expect(ordered).toHaveLength(steps.length);
      const hops = ordered.map((one) =>
        one.op === 'delete-route' ? 'deletion' : 'via' in one.route ? one.route.via : 'none',
      );
      const runs = hops.filter((hop, i) => hop !== hops[i - 1]);
      expect(new Set(runs).size).toBe(runs.length);
      if (runs.includes('deletion')) expect(runs.at(-1)).toBe('deletion');
    }),
  );
});
