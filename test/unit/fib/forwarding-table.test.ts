/** The outbound table: prefixes to peers, changed operation by operation. */
import { expect, test } from 'vitest';
import type { ForwardingConfig, Peer } from '../../../src/fib/forwarding-config.ts';
import { ForwardingTable, INNER_DESTINATION, NO_ROUTE } from '../../../src/fib/forwarding-table.ts';
import { formatIpv4, type Ipv4, ipv4 } from '../../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../../src/ip/mtu.ts';
import { prefix } from '../../../src/ip/prefix.ts';

const A = ipv4('10.0.1.11');
const B = ipv4('10.0.2.11');
const C = ipv4('10.0.2.12');
const SOURCE = ipv4('192.168.9.1');
const peer = (address: Ipv4, mtu = 1500): Peer => ({
  address,
  transport: 'ipip',
  udpPort: 0,
  mtu: mtu as UnderlayMtu,
});

function makeTable() {
  const clock = { now: 0 };
  const table = new ForwardingTable(() => clock.now);
  const nextHop = (destination: string, source: number = SOURCE) => {
    const slot = table.nextHop(ipv4(destination), source);
    return slot < 0 ? slot : formatIpv4(table.peers.address(slot) >>> 0);
  };
  return { clock, table, nextHop };
}

const config = (changes: Partial<ForwardingConfig>): ForwardingConfig => ({
  revision: 1,
  outerSource: null,
  localAddresses: null,
  entries: [],
  peers: [],
  sources: [],
  externalSources: [],
  ...changes,
});

test('the longest prefix wins, and its deletion uncovers the shorter one', () => {
  const { table, nextHop } = makeTable();
  table.apply({
    op: 'set-entry',
    entry: { prefix: prefix('192.168.0.0/16'), nextHops: 'inner-destination' },
  });
  table.apply({ op: 'set-entry', entry: { prefix: prefix('192.168.1.0/26'), nextHops: [A] } });
  table.apply({ op: 'set-entry', entry: { prefix: prefix('192.168.1.7/32'), nextHops: [B] } });
  expect(['192.168.1.7', '192.168.1.8', '192.168.2.1', '10.1.1.1'].map((d) => nextHop(d))).toEqual([
    '10.0.2.11',
    '10.0.1.11',
    INNER_DESTINATION,
    NO_ROUTE,
  ]);
  table.apply({ op: 'delete-entry', prefix: prefix('192.168.1.7/32') });
  expect(nextHop('192.168.1.7')).toBe('10.0.1.11');
});

test('several next hops share flows, and one flow stays with one', () => {
  const { table, nextHop } = makeTable();
  table.apply({ op: 'set-entry', entry: { prefix: prefix('192.168.1.0/26'), nextHops: [A, B] } });
  const chosen = Array.from({ length: 64 }, (_, i) => nextHop('192.168.1.5', SOURCE + i));
  expect(new Set(chosen)).toEqual(new Set(['10.0.1.11', '10.0.2.11']));
  expect(Array.from({ length: 64 }, (_, i) => nextHop('192.168.1.5', SOURCE + i))).toEqual(chosen);
});

test('replace keeps the slots of what stays and forgets what is gone', () => {
  const { clock, table, nextHop } = makeTable();
  const entry = (text: string, hop: Ipv4) => ({ prefix: prefix(text), nextHops: [hop] });
  table.replace(
    config({ peers: [peer(A), peer(B)], entries: [entry('192.168.1.0/26', A), entry('192.168.2.0/26', B)] }),
  );
  const slotOfB = table.peers.slotOf(B);
  table.replace(
    config({
      peers: [peer(B, 1400), peer(C)],
      entries: [entry('192.168.2.0/26', B), entry('192.168.3.0/26', C)],
    }),
  );
  expect(table.peers.slotOf(B)).toBe(slotOfB);
  expect(table.peers.mtu(slotOfB)).toBe(1400);
  expect(['192.168.1.1', '192.168.2.1', '192.168.3.1'].map((d) => nextHop(d))).toEqual([
    NO_ROUTE,
    '10.0.2.11',
    '10.0.2.12',
  ]);
  expect(table.peers.isKnown(table.peers.slotOf(A))).toBe(false);
  clock.now = 1000;
  table.sweep();
  expect(table.peers.slotOf(A)).toBe(0);
  expect(table.size).toBe(2);
});

test('5,000 peers come and go without slots running away', () => {
  const { clock, table } = makeTable();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5000; i++) table.apply({ op: 'set-peer', peer: peer((0x0a100000 + i) as Ipv4) });
    for (let i = 0; i < 5000; i++) table.apply({ op: 'delete-peer', address: (0x0a100000 + i) as Ipv4 });
    clock.now += 1000;
    table.sweep();
  }
  expect(table.peers.end).toBeLessThanOrEqual(5001);
});
