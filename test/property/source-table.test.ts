/** Who may send which inner source: the table against rules written down one after another. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ForwardingConfig, Peer, SourceEntry } from '../../src/fib/forwarding-config.ts';
import * as fib from '../../src/fib/source-table.ts';
import { type Ipv4, ipv4 } from '../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { type Prefix, prefix, prefixContains } from '../../src/ip/prefix.ts';

const PEERS = ['10.0.1.11', '10.0.1.12', '10.0.2.11'].map(ipv4);
const OUTERS = [...PEERS, ipv4('10.0.9.9'), ipv4('172.16.0.5')];
const PREFIXES = [
  '0.0.0.0/0',
  '192.168.0.0/16',
  '192.168.1.0/26',
  '192.168.1.7/32',
  '192.168.2.0/26',
  '10.0.1.12/32',
].map(prefix);
const INNERS = [
  '192.168.1.1',
  '192.168.1.7',
  '192.168.2.2',
  '192.168.9.9',
  '10.0.1.11',
  '10.0.1.12',
  '8.8.8.8',
].map(ipv4);

function slowCheck(config: ForwardingConfig, outer: Ipv4, inner: Ipv4): number {
  const source = config.sources
    .filter((s) => prefixContains(s.prefix, inner))
    .sort((a, b) => b.prefix.length - a.prefix.length)[0];
  const owners = source?.owners;
  const refused =
    owners === 'local'
      ? fib.SOURCE_INNER_LOCAL
      : owners === undefined
        ? fib.SOURCE_INNER_UNKNOWN
        : fib.SOURCE_INNER_FOREIGN;
  const isPeer = config.peers.some((peer) => peer.address === outer);
  const isExternal = config.externalSources.some((p) => prefixContains(p, outer));
  if (isPeer) {
    if (owners === 'any-peer') return fib.SOURCE_ACCEPTED;
    if (Array.isArray(owners) && owners.includes(outer)) return fib.SOURCE_ACCEPTED;
    if (inner === outer && owners !== 'local') return fib.SOURCE_ACCEPTED;
    if (!isExternal) return refused;
  }
  if (!isExternal) return fib.SOURCE_OUTER_UNKNOWN;
  if (owners === 'local' || Array.isArray(owners)) return refused;
  const ofPeer = config.peers.some((peer) => peer.address === inner) && inner !== outer;
  return ofPeer ? fib.SOURCE_INNER_FOREIGN : fib.SOURCE_ACCEPTED;
}

const owners = fc.oneof(
  fc.constantFrom('any-peer' as const, 'local' as const),
  fc.subarray(PEERS, { minLength: 1 }),
);
const sources = fc
  .uniqueArray(fc.constantFrom(...PREFIXES), { maxLength: 6 })
  .chain((list) => fc.tuple(...list.map((p) => owners.map((o): SourceEntry => ({ prefix: p, owners: o })))));
const peerOf = (address: Ipv4): Peer => ({
  address,
  transport: 'ipip',
  udpPort: 0,
  mtu: 1500 as UnderlayMtu,
});
const config = fc
  .record({
    sources,
    peers: fc.subarray(PEERS).map((list) => list.map(peerOf)),
    externalSources: fc.subarray([prefix('172.16.0.0/12'), prefix('10.0.1.12/32')]) as fc.Arbitrary<Prefix[]>,
  })
  .map(
    (parts): ForwardingConfig => ({
      revision: 1,
      outerSource: null,
      localAddresses: null,
      entries: [],
      ...parts,
    }),
  );

test('a table laid whole answers by the rules, and so does one replaced once its grace is over', () => {
  fc.assert(
    fc.property(config, config, (first, second) => {
      let now = 1000;
      const table = new fib.SourceTable(() => now);
      const checkAll = (expected: ForwardingConfig) => {
        for (const outer of OUTERS)
          for (const inner of INNERS)
            expect([outer, inner, table.check(outer, table.peers.slotOf(outer), inner)]).toEqual([
              outer,
              inner,
              slowCheck(expected, outer, inner),
            ]);
      };
      table.replace(first);
      now += 1001;
      checkAll(first);
      table.replace(second);
      now += 1001;
      checkAll(second);
      table.sweep();
      checkAll(second);
    }),
    { numRuns: 100 },
  );
});

test('what an old owner has in flight is taken for one second more, and not longer', () => {
  let now = 0;
  const table = new fib.SourceTable(() => now);
  const [a, b] = [PEERS[0]!, PEERS[1]!];
  for (const address of [a, b]) table.apply({ op: 'set-peer', peer: peerOf(address) });
  const block = prefix('192.168.1.0/26');
  const inner = ipv4('192.168.1.1');
  const verdict = (outer: Ipv4) => table.check(outer, table.peers.slotOf(outer), inner);
  table.apply({ op: 'set-source', source: { prefix: block, owners: [a] } });
  expect([verdict(a), verdict(b)]).toEqual([fib.SOURCE_ACCEPTED, fib.SOURCE_INNER_FOREIGN]);
  table.apply({ op: 'set-source', source: { prefix: block, owners: [b] } });
  now = 999;
  expect([verdict(a), verdict(b)]).toEqual([fib.SOURCE_IN_GRACE, fib.SOURCE_ACCEPTED]);
  now = 1000;
  expect([verdict(a), verdict(b)]).toEqual([fib.SOURCE_INNER_FOREIGN, fib.SOURCE_ACCEPTED]);
  table.apply({ op: 'delete-source', prefix: block });
  table.apply({ op: 'delete-peer', address: b });
  now = 1999;
  expect(verdict(b)).toBe(fib.SOURCE_IN_GRACE);
  now = 2000;
  expect(verdict(b)).toBe(fib.SOURCE_OUTER_UNKNOWN);
  table.sweep();
  expect(table.peers.slotOf(b)).toBe(0);
});

test('a borrowed address taken out of a block: the block owner keeps it for a second', () => {
  let now = 0;
  const table = new fib.SourceTable(() => now);
  const [a, b] = [PEERS[0]!, PEERS[1]!];
  for (const address of [a, b]) table.apply({ op: 'set-peer', peer: peerOf(address) });
  table.apply({ op: 'set-source', source: { prefix: prefix('192.168.1.0/26'), owners: [a] } });
  table.apply({ op: 'set-source', source: { prefix: prefix('192.168.1.7/32'), owners: [b] } });
  const verdict = () => table.check(a, table.peers.slotOf(a), ipv4('192.168.1.7'));
  expect(verdict()).toBe(fib.SOURCE_IN_GRACE);
  now = 1000;
  expect(verdict()).toBe(fib.SOURCE_INNER_FOREIGN);
});
