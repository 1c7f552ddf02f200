/** From kernel routes to the forwarding table: which next hop, who may send, and only the difference. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KernelChange, KernelLink, KernelRoute } from '../../../src/control/kernel-tables.ts';
import { RouteForwarding } from '../../../src/control/route-forwarding.ts';
import type { ForwardingConfig, ForwardingOperation } from '../../../src/fib/forwarding-config.ts';
import { formatIpv4, ipv4 } from '../../../src/ip/ipv4.ts';
import { formatPrefix, prefix } from '../../../src/ip/prefix.ts';

const TUNL0 = 7;
const ETH0 = 2;
const MAIN = 254;
const LINKS: readonly KernelLink[] = [
  { index: ETH0, name: 'eth0', up: true, running: true, mtu: 1400, type: 'veth' },
  { index: TUNL0, name: 'tunl0', up: true, running: true, mtu: 1380, type: 'tun' },
];

type Hop = readonly [gateway: string | null, device?: number, weight?: number];

function route(to: string, hops: Hop | readonly Hop[], changes: Partial<KernelRoute> = {}): KernelRoute {
  const list = (Array.isArray(hops[0]) ? hops : [hops]) as readonly Hop[];
  return {
    prefix: prefix(to),
    table: MAIN,
    metric: 0,
    type: 'unicast',
    mtu: 0,
    nextHops: list.map(([gateway, device = TUNL0, weight = 1]) => ({
      gateway: gateway === null ? null : ipv4(gateway),
      interfaceIndex: device,
      weight,
    })),
    ...changes,
  };
}

function forwardingOf(...routes: KernelRoute[]): RouteForwarding {
  const forwarding = new RouteForwarding({ local: null, allow: [], transport: 'ipip', udpPort: 0 });
  forwarding.replace({ links: LINKS, routes });
  forwarding.setDevice(TUNL0);
  forwarding.drain();
  return forwarding;
}

const hops = (list: readonly number[] | string) =>
  typeof list === 'string' ? list : list.map(formatIpv4).join(' ');
const entriesOf = (config: ForwardingConfig) =>
  Object.fromEntries(config.entries.map((entry) => [formatPrefix(entry.prefix), hops(entry.nextHops)]));
const sourcesOf = (config: ForwardingConfig) =>
  Object.fromEntries(config.sources.map((entry) => [formatPrefix(entry.prefix), hops(entry.owners)]));
const peersOf = (config: ForwardingConfig) =>
  Object.fromEntries(config.peers.map((peer) => [formatIpv4(peer.address), `${peer.transport} ${peer.mtu}`]));
const table = (...routes: KernelRoute[]) => forwardingOf(...routes).config(1);

const BLOCK = '192.168.104.0/26';
const UNDERLAY = [
  route('0.0.0.0/0', ['10.0.1.1', ETH0]),
  route('10.0.1.0/24', [null, ETH0]),
  route('10.0.1.11/32', [null, ETH0], { table: 255, type: 'local' }),
];

describe('where packets go', () => {
  test('to the gateway of the route through our device, or to the inner destination without one', () => {
    const config = table(
      ...UNDERLAY,
      route(BLOCK, ['10.0.2.11']),
      route('192.168.9.9/32', [null]),
      route('192.168.50.0/26', ['10.0.1.12', ETH0]),
      route('192.168.166.128/26', [null], { type: 'refused', nextHops: [] }),
      route('192.168.166.129/32', [null, TUNL0], { table: 255, type: 'local' }),
    );
    expect(entriesOf(config)).toEqual({ [BLOCK]: '10.0.2.11', '192.168.9.9/32': 'inner-destination' });
  });

  test('a guard beneath the others says nothing: neither where packets go, nor who sends', () => {
    const guard = route('192.168.0.0/16', [null], { type: 'guard', nextHops: [], metric: 0xffff_ffff });
    const config = table(...UNDERLAY, guard, route(BLOCK, ['10.0.2.11']));
    expect(config).toEqual(table(...UNDERLAY, route(BLOCK, ['10.0.2.11'])));
    const forwarding = forwardingOf(...UNDERLAY, route(BLOCK, ['10.0.2.11']));
    for (const change of ['set', 'deleted'] as const)
      expect(forwarding.apply({ kind: 'route', change, route: guard, position: 'first' })).toBe('agreed');
    expect(forwarding.drain()).toEqual([]);
  });

  test('a next hop that a guard would cut off is named, one with a longer route is not', () => {
    const forwarding = forwardingOf(
      ...UNDERLAY,
      route(BLOCK, ['10.0.2.11']),
      route('192.168.9.0/26', ['10.0.1.12']),
    );
    expect(forwarding.cutOffBy([prefix('10.0.0.0/8')]).map(formatIpv4)).toEqual(['10.0.2.11']);
    expect(forwarding.cutOffBy([prefix('192.168.0.0/16')])).toEqual([]);
  });

  test('the lowest metric wins, and main wins over other tables, which is reported', () => {
    const forwarding = forwardingOf(
      route(BLOCK, ['10.0.2.13'], { table: 100 }),
      route(BLOCK, ['10.0.2.12'], { metric: 20 }),
      route(BLOCK, ['10.0.2.11'], { metric: 10 }),
    );
    expect(entriesOf(forwarding.config(1))).toEqual({ [BLOCK]: '10.0.2.11' });
    expect(forwarding.disputed().map(formatPrefix)).toEqual([BLOCK]);
    const only = { table: 100 };
    expect(entriesOf(table(route(BLOCK, ['10.0.2.13'], only)))).toEqual({ [BLOCK]: '10.0.2.13' });
  });

  test('paths through our device share by weight, and those beside it are left out', () => {
    const paths: Hop[] = [
      ['10.0.2.11', TUNL0, 4],
      ['10.0.2.12', TUNL0, 2],
      ['10.0.1.12', ETH0, 1],
    ];
    expect(entriesOf(table(route(BLOCK, paths)))).toEqual({ [BLOCK]: '10.0.2.11 10.0.2.11 10.0.2.12' });
    const lopsided: Hop[] = [
      ['10.0.2.11', TUNL0, 255],
      ['10.0.2.12', TUNL0, 1],
    ];
    const { entries } = table(route(BLOCK, lopsided));
    expect(entries[0]!.nextHops.length).toBeLessThanOrEqual(66);
    expect(entries[0]!.nextHops).toContain(ipv4('10.0.2.12'));
  });
});

describe('who may send', () => {
  test('the next hop of the route back, by whichever device and table', () => {
    const config = table(
      ...UNDERLAY,
      route(BLOCK, ['10.0.2.11']),
      route('192.168.50.0/26', ['10.0.1.12', ETH0]),
      route('192.168.50.0/26', ['10.0.2.13'], { table: 100 }),
    );
    expect(sourcesOf(config)).toEqual({
      '0.0.0.0/0': 'any-peer',
      '10.0.1.0/24': '',
      '10.0.1.11/32': 'local',
      [BLOCK]: '10.0.2.11',
      '192.168.50.0/26': '10.0.1.12 10.0.2.13',
    });
    expect(config).toMatchObject({ byRoutes: true, outerSource: null, localAddresses: null });
  });

  test('nobody for a blackhole, unless it is in a table for some packets only, or for everything', () => {
    const refused = { type: 'refused', nextHops: [] } as const;
    expect(sourcesOf(table(route(BLOCK, [null], refused)))).toEqual({ [BLOCK]: 'local' });
    expect(sourcesOf(table(route(BLOCK, [null], { ...refused, table: 100 })))).toEqual({});
    expect(sourcesOf(table(route('0.0.0.0/0', [null], refused)))).toEqual({});
  });

  test('peers beside our device have no transport, but for the gateways of the default route', () => {
    const config = table(
      ...UNDERLAY,
      route(BLOCK, ['10.0.2.11']),
      route('172.16.0.0/16', ['10.0.1.9', ETH0]),
    );
    expect(peersOf(config)).toEqual({
      '10.0.1.1': 'ipip 1400',
      '10.0.1.9': 'none 1400',
      '10.0.2.11': 'ipip 1400',
    });
  });
});

describe('changes', () => {
  const apply = (forwarding: RouteForwarding, ...changes: KernelChange[]) => {
    for (const change of changes) forwarding.apply(change);
    return forwarding.drain();
  };
  const set = (one: KernelRoute, position: 'first' | 'replaced' | 'appended' = 'first'): KernelChange => ({
    kind: 'route',
    change: 'set',
    route: one,
    position,
  });
  const deleted = (one: KernelRoute): KernelChange => ({
    kind: 'route',
    change: 'deleted',
    route: one,
    position: 'first',
  });
  const ops = (operations: readonly ForwardingOperation[]) => operations.map(({ op }) => op);

  test('another next hop: the new peer first, then the prefix, then the old peer goes', () => {
    const forwarding = forwardingOf(...UNDERLAY, route(BLOCK, ['10.0.2.11']));
    expect(ops(apply(forwarding, set(route(BLOCK, ['10.0.2.12']), 'replaced')))).toEqual([
      'set-peer',
      'set-entry',
      'set-source',
      'delete-peer',
    ]);
    expect(apply(forwarding, set(route(BLOCK, ['10.0.2.12']), 'replaced'))).toEqual([]);
  });

  test('a route appended to or put before another of its kind, and both deleted again', () => {
    const [a, b] = [route(BLOCK, ['10.0.2.11']), route(BLOCK, ['10.0.2.12'])];
    const forwarding = forwardingOf(a);
    expect(apply(forwarding, set(b, 'appended'))).toEqual([]);
    apply(forwarding, deleted(a));
    expect(entriesOf(forwarding.config(1))).toEqual({ [BLOCK]: '10.0.2.12' });
    apply(forwarding, set(a, 'first'));
    expect(entriesOf(forwarding.config(1))).toEqual({ [BLOCK]: '10.0.2.11' });
    apply(forwarding, deleted(a), deleted(b));
    expect(forwarding.config(1)).toMatchObject({ entries: [], sources: [], peers: [] });
    expect(forwarding.routeCount).toBe(0);
  });

  test('a message about a route that is not as we know it says that the tables drifted', () => {
    const forwarding = forwardingOf(route(BLOCK, ['10.0.2.11']));
    expect(forwarding.apply(deleted(route(BLOCK, ['10.0.2.12'])))).toBe('drifted');
    expect(forwarding.apply(deleted(route('172.16.0.0/16', ['10.0.2.12'])))).toBe('agreed');
  });

  test('the MTU of a link, and a route with one of its own, reach the peers', () => {
    const forwarding = forwardingOf(...UNDERLAY, route(BLOCK, ['10.0.2.11']));
    const jumbo = { ...LINKS[0]!, mtu: 9000 };
    apply(forwarding, { kind: 'link', change: 'set', link: jumbo });
    expect(peersOf(forwarding.config(1))).toEqual({ '10.0.1.1': 'ipip 9000', '10.0.2.11': 'ipip 9000' });
    apply(forwarding, set(route('10.0.2.0/24', ['10.0.1.1', ETH0], { mtu: 1300 })));
    expect(peersOf(forwarding.config(1))).toEqual({ '10.0.1.1': 'ipip 9000', '10.0.2.11': 'ipip 1300' });
    expect(forwarding.underlayLinks().map(({ name }) => name)).toEqual(['eth0']);
  });

  test('a device that goes takes its entries, and one that comes has them', () => {
    const forwarding = forwardingOf(...UNDERLAY, route(BLOCK, ['10.0.2.11']));
    forwarding.setDevice(null);
    expect(ops(forwarding.drain())).toContain('delete-entry');
    forwarding.setDevice(TUNL0);
    expect(ops(forwarding.drain())).toContain('set-entry');
  });

  const anyRoute = fc
    .record({
      to: fc.constantFrom('0.0.0.0/0', '192.168.0.0/16', BLOCK, '192.168.104.1/32', '10.0.2.0/24'),
      via: fc.constantFrom('10.0.2.11', '10.0.2.12', '10.0.1.1', null),
      device: fc.constantFrom(TUNL0, ETH0),
      table: fc.constantFrom(MAIN, 100),
      metric: fc.constantFrom(0, 10),
    })
    .map(({ to, via, device, table: number, metric }) => route(to, [via, device], { table: number, metric }));

  test('change by change ends where one dump begins', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyRoute, fc.boolean()), { maxLength: 40 }), (steps) => {
        const forwarding = forwardingOf();
        const kernel = new Map<string, KernelRoute>();
        for (const [one, isSet] of steps) {
          const key = `${formatPrefix(one.prefix)} ${one.table} ${one.metric}`;
          const known = kernel.get(key);
          if (isSet) kernel.set(key, one);
          else kernel.delete(key);
          if (isSet) forwarding.apply(set(one, known ? 'replaced' : 'first'));
          else if (known) forwarding.apply(deleted(known));
          forwarding.drain();
        }
        const atOnce = forwardingOf(...kernel.values()).config(1);
        const stepwise = forwarding.config(1);
        for (const view of [entriesOf, sourcesOf, peersOf]) expect(view(stepwise)).toEqual(view(atOnce));
        expect(forwarding.routeCount).toBe(kernel.size);
        expect(forwarding.entryCount).toBe(stepwise.entries.length);
      }),
    );
  });
});
