/** The maps laid from a configuration change by change are those laid from it at once, and answer as the slow path's tables. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FastTables, type MapWriter } from '../../src/ebpf/fast-tables.ts';
import { addressBytes, type MapName, prefixKey, VALUE_ANY_PEER, VALUE_SLOW } from '../../src/ebpf/layout.ts';
import type { ForwardingConfig, ForwardingOperation } from '../../src/fib/forwarding-config.ts';
import { ForwardingTable } from '../../src/fib/forwarding-table.ts';
import { SOURCE_ACCEPTED, SourceTable } from '../../src/fib/source-table.ts';
import { type Ipv4, ipv4, ipv4FromNumber } from '../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { netmask, type Prefix, prefix } from '../../src/ip/prefix.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

class MemoryMaps implements MapWriter {
  readonly entries = new Map<string, string>();
  set(map: MapName, key: Uint8Array, value: Uint8Array): void {
    this.entries.set(`${map} ${hex(key)}`, hex(value));
  }
  delete(map: MapName, key: Uint8Array): void {
    this.entries.delete(`${map} ${hex(key)}`);
  }
  startCounters(key: Uint8Array): void {
    this.entries.set(`peer_counters ${hex(key)}`, '');
  }
  keys(map: MapName): Uint8Array[] {
    return [...this.entries.keys()].flatMap((key) => {
      const [of, bytes] = key.split(' ');
      return of === map ? [Uint8Array.from(Buffer.from(bytes!, 'hex'))] : [];
    });
  }
  longest(map: MapName, address: number): string | undefined {
    for (let length = 32; length >= 0; length--) {
      const value = this.entries.get(`${map} ${hex(prefixKey((address & netmask(length)) >>> 0, length))}`);
      if (value !== undefined) return value;
    }
    return undefined;
  }
  sorted = () => [...this.entries].sort();
}

const PEERS = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map(ipv4);
const SELF = ipv4('10.0.0.9');
const ROUTER = ipv4('10.0.0.1');
const PREFIXES: Prefix[] = [
  '192.168.0.0/16',
  '192.168.1.0/24',
  '192.168.1.64/26',
  '192.168.1.65/32',
  '10.0.0.0/24',
].map(prefix);
const anyPrefix = fc.constantFrom(...PREFIXES);
const hops = fc.uniqueArray(fc.constantFrom(...PEERS, SELF), { minLength: 1, maxLength: 2 });
const operation: fc.Arbitrary<ForwardingOperation> = fc.oneof(
  fc.record({
    op: fc.constant('set-entry' as const),
    entry: fc.record({
      prefix: anyPrefix,
      nextHops: fc.oneof(hops, fc.constant('inner-destination' as const)),
    }),
  }),
  fc.record({ op: fc.constant('delete-entry' as const), prefix: anyPrefix }),
  fc.record({
    op: fc.constant('set-peer' as const),
    peer: fc.record({
      address: fc.constantFrom(...PEERS),
      transport: fc.constantFrom('ipip' as const, 'udp' as const),
      udpPort: fc.constant(5555),
      mtu: fc.constantFrom(1400, 1500).map((mtu) => mtu as UnderlayMtu),
    }),
  }),
  fc.record({ op: fc.constant('delete-peer' as const), address: fc.constantFrom(...PEERS) }),
  fc.record({
    op: fc.constant('set-source' as const),
    source: fc.record({
      prefix: anyPrefix,
      owners: fc.oneof(hops, fc.constantFrom('any-peer' as const, 'local' as const)),
    }),
  }),
  fc.record({ op: fc.constant('delete-source' as const), prefix: anyPrefix }),
  fc.record({
    op: fc.constant('set-local' as const),
    outerSource: fc.constantFrom(SELF, null),
    localAddresses: fc.constantFrom([SELF], [SELF, PEERS[2]!], null),
  }),
);

const EMPTY: ForwardingConfig = {
  revision: 1,
  outerSource: null,
  localAddresses: null,
  entries: [],
  peers: [],
  sources: [],
  externalSources: [],
};

/** The configuration after these operations, kept in the plainest way. */
function configAfter(operations: readonly ForwardingOperation[]): ForwardingConfig {
  let config = EMPTY;
  const without = <T extends { prefix: Prefix }>(rows: readonly T[], p: Prefix) =>
    rows.filter((row) => row.prefix.address !== p.address || row.prefix.length !== p.length);
  const others = (address: Ipv4) => config.peers.filter((peer) => peer.address !== address);
  for (const o of operations) {
    if (o.op === 'set-entry')
      config = { ...config, entries: [...without(config.entries, o.entry.prefix), o.entry] };
    if (o.op === 'delete-entry') config = { ...config, entries: without(config.entries, o.prefix) };
    if (o.op === 'set-peer') config = { ...config, peers: [...others(o.peer.address), o.peer] };
    if (o.op === 'delete-peer') config = { ...config, peers: others(o.address) };
    if (o.op === 'set-source')
      config = { ...config, sources: [...without(config.sources, o.source.prefix), o.source] };
    if (o.op === 'delete-source') config = { ...config, sources: without(config.sources, o.prefix) };
    if (o.op === 'set-local')
      config = { ...config, outerSource: o.outerSource, localAddresses: o.localAddresses };
  }
  return config;
}

const laid = (write: (tables: FastTables) => void) => {
  const maps = new MemoryMaps();
  write(new FastTables(maps, (peer) => ({ device: 7, mtu: 0, hop: peer, source: SELF })));
  return maps;
};

test('change by change, at once, and by a snapshot over something else: the same maps', () => {
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 30 }),
      fc.array(operation, { maxLength: 10 }),
      (first, second) => {
        const config = configAfter(first);
        const stepwise = laid((tables) => {
          for (const o of first) tables.apply(o);
        });
        const atOnce = laid((tables) => tables.replace(config));
        const over = laid((tables) => {
          tables.replace(configAfter(second));
          tables.replace(config);
        });
        expect(stepwise.sorted()).toEqual(atOnce.sorted());
        expect(over.sorted()).toEqual(atOnce.sorted());
      },
    ),
  );
});

test('laid again over what others wrote, emptied or left: the same maps', () => {
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 20 }),
      fc.array(operation, { maxLength: 20 }),
      fc.boolean(),
      (before, after, isEmptied) => {
        const config = configAfter(after);
        const maps = laid((tables) => tables.replace(configAfter(before)));
        const tables = new FastTables(maps, (peer) => ({ device: 7, mtu: 0, hop: peer, source: SELF }));
        tables.replace(config);
        if (isEmptied) {
          maps.entries.clear();
          tables.layAgain();
        } else tables.sweep();
        expect(maps.sorted()).toEqual(laid((fresh) => fresh.replace(config)).sorted());
      },
    ),
  );
});

test('what the maps let the programs do, the slow path would do too', () => {
  const probe = fc.constantFrom(...PREFIXES.map((p) => p.address + 1), ...PEERS, SELF, ipv4('8.8.8.8'));
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 30 }),
      probe,
      fc.constantFrom(...PEERS),
      (operations, address, sender) => {
        const config = configAfter(operations);
        const maps = laid((tables) => tables.replace(config));
        const forwarding = new ForwardingTable(() => 0);
        forwarding.replace(config);
        const route = maps.longest('routes', address);
        const hop = forwarding.nextHop(address, 0);
        if (route !== undefined && route !== `0${VALUE_SLOW}000000`)
          expect(route).toBe(hex(addressBytes(forwarding.peers.address(hop) >>> 0)));
        const sources = new SourceTable(() => 0);
        sources.replace(config);
        const owner = maps.longest('sources', address);
        const isPeer = maps.entries.has(`peer_counters ${hex(addressBytes(sender))}`);
        const allowed = owner === `0${VALUE_ANY_PEER}000000` || owner === hex(addressBytes(sender));
        if (isPeer && allowed)
          expect(sources.check(sender, sources.peers.slotOf(sender), ipv4FromNumber(address))).toBe(
            SOURCE_ACCEPTED,
          );
      },
    ),
  );
});

test('a path MTU lowers what a peer is sent, and is forgotten with it', () => {
  const maps = new MemoryMaps();
  const tables = new FastTables(maps, () => ({ device: 7, mtu: 1450, hop: ROUTER, source: SELF }));
  const peer = { address: PEERS[0]!, transport: 'ipip', udpPort: 0, mtu: 1500 as UnderlayMtu } as const;
  const value = () => maps.entries.get(`peers ${hex(addressBytes(peer.address))}`);
  // AF_INET, 10.0.0.1, and the rest of struct bpf_redir_neigh.
  const hop = `020000000a000001${'00'.repeat(12)}`;
  tables.apply({ op: 'set-peer', peer });
  expect(value()).toBe(`aa050000070000000a000009${hop}`);
  tables.setPathMtu(peer.address, 1400);
  expect(value()).toBe(`78050000070000000a000009${hop}`);
  tables.setPathMtu(peer.address, null);
  expect(value()).toBe(`aa050000070000000a000009${hop}`);
  tables.setPathMtu(peer.address, 1400);
  tables.apply({ op: 'delete-peer', address: peer.address });
  tables.apply({ op: 'set-peer', peer });
  expect(value()).toBe(`aa050000070000000a000009${hop}`);
});

test('without an outer source the kernel chooses one for each peer, and each address of the host is ours', () => {
  const maps = new MemoryMaps();
  let chosen: Ipv4 | null = ipv4('10.0.0.7');
  const tables = new FastTables(maps, (_, source) => ({
    device: 7,
    mtu: 0,
    hop: null,
    source: source ?? chosen,
  }));
  const [address] = PEERS as [Ipv4];
  const noHop = '00'.repeat(20);
  const value = () => maps.entries.get(`peers ${hex(addressBytes(address))}`);
  const locals = () => maps.sorted().flatMap(([key]) => (key.startsWith('locals') ? [key.slice(7)] : []));
  tables.apply({ op: 'set-local', outerSource: null, localAddresses: null });
  tables.setHostAddresses([ipv4('10.0.0.7'), ipv4('10.0.1.7')]);
  tables.apply({
    op: 'set-peer',
    peer: { address, transport: 'ipip', udpPort: 0, mtu: 1500 as UnderlayMtu },
  });
  expect([value(), locals()]).toEqual([`dc050000070000000a000007${noHop}`, ['0a000007', '0a000107']]);
  expect([...tables.sources()]).toEqual([ipv4('10.0.0.7')]);
  // The address goes away, and with it the source.
  chosen = null;
  tables.followRoutes();
  tables.setHostAddresses([ipv4('10.0.1.7')]);
  expect([value(), locals()]).toEqual([`dc0500000000000000000000${noHop}`, ['0a000107']]);
  tables.apply({ op: 'set-local', outerSource: SELF, localAddresses: [SELF] });
  expect([value(), locals()]).toEqual([`dc050000070000000a000009${noHop}`, ['0a000009']]);
});
