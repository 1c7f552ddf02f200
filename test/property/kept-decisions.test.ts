/** What a direction keeps of the packet before is what it would find anew: its twin is made to ask each time. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ForwardingOperation } from '../../src/fib/forwarding-config.ts';
import { type Ipv4, ipv4 } from '../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { prefix } from '../../src/ip/prefix.ts';
import {
  fromTun,
  makeInbound,
  makeOutbound,
  OTHER_PEER,
  PEER,
  SELF,
  STRANGER,
} from '../helpers/memory-direction.ts';
import { ipv4Packet, udpPacket } from '../helpers/packets.ts';

const PEERS = [PEER, OTHER_PEER];
const PREFIXES = ['192.168.77.128/26', '192.168.77.130/32', '192.168.0.0/16'].map(prefix);
const ADDRESSES = ['192.168.77.129', '192.168.77.130', '192.168.42.65', '10.0.3.10'].map(ipv4);

const address = fc.constantFrom(...ADDRESSES);
const somePrefix = fc.constantFrom(...PREFIXES);
const peer = fc.constantFrom(...PEERS);
const owners = fc.oneof(
  fc.subarray(PEERS, { minLength: 1 }),
  fc.constantFrom('any-peer' as const, 'local' as const),
);

const operation: fc.Arbitrary<ForwardingOperation> = fc.oneof(
  fc
    .tuple(somePrefix, fc.oneof(fc.subarray(PEERS), fc.constant('inner-destination' as const)))
    .map(([p, nextHops]) => ({ op: 'set-entry' as const, entry: { prefix: p, nextHops } })),
  somePrefix.map((p) => ({ op: 'delete-entry' as const, prefix: p })),
  fc
    .tuple(
      peer,
      fc.constantFrom('ipip' as const, 'udp' as const, 'none' as const),
      fc.constantFrom(576, 1400, 1500),
    )
    .map(([a, transport, mtu]) => ({
      op: 'set-peer' as const,
      peer: { address: a, transport, udpPort: 5555, mtu: mtu as UnderlayMtu },
    })),
  peer.map((a) => ({ op: 'delete-peer' as const, address: a })),
  fc
    .tuple(somePrefix, owners)
    .map(([p, o]) => ({ op: 'set-source' as const, source: { prefix: p, owners: o } })),
  somePrefix.map((p) => ({ op: 'delete-source' as const, prefix: p })),
  fc
    .constantFrom([SELF], [SELF, PEER], null)
    .map((localAddresses) => ({ op: 'set-local' as const, outerSource: SELF, localAddresses })),
);

type Step =
  | { readonly packets: readonly { readonly from: Ipv4; readonly to: Ipv4; readonly sender: Ipv4 }[] }
  | { readonly operation: ForwardingOperation }
  | { readonly waitMs: number }
  | { readonly learns: Ipv4; readonly mtu: number }
  | { readonly unreachable: Ipv4 };

const packet = fc.record({ from: address, to: address, sender: fc.constantFrom(...PEERS, STRANGER) });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ packets: fc.array(packet, { minLength: 1, maxLength: 3 }) }) },
    { weight: 2, arbitrary: fc.record({ operation }) },
    fc.record({ waitMs: fc.constantFrom(1, 999, 1000, 700_000) }),
    fc.record({ learns: peer, mtu: fc.constantFrom(600, 1300) }),
    fc.record({ unreachable: peer }),
  ),
  { maxLength: 40 },
);
const RUNS = { numRuns: 300 };
const PAYLOAD = Array<number>(700).fill(1);

test('outbound', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const keeping = makeOutbound();
      const asking = makeOutbound();
      for (const step of list) {
        const sent = [keeping, asking].map((direction) => {
          const { table, paths, time } = direction;
          if ('packets' in step)
            return step.packets.map(({ from, to }) => {
              if (direction === asking) table.changes++;
              const before = direction.datagramSink.sent.length;
              const raw = direction.send(fromTun(udpPacket(PAYLOAD, { source: from, destination: to })));
              return [raw, direction.datagramSink.sent.slice(before)];
            });
          if ('operation' in step) table.apply(step.operation);
          else if ('waitMs' in step) time.now += step.waitMs;
          else if ('learns' in step) paths.learnMtu(table.peers.slotOf(step.learns), step.mtu);
          else paths.noteUnreachable(table.peers.slotOf(step.unreachable));
          if ('waitMs' in step) table.sweep();
          return [];
        });
        expect(sent[0]).toEqual(sent[1]);
      }
      expect(keeping.counters.snapshot()).toEqual(asking.counters.snapshot());
    }),
    RUNS,
  );
});

test('inbound', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const keeping = makeInbound();
      const asking = makeInbound();
      for (const step of list) {
        const written = [keeping, asking].map((direction) => {
          if ('packets' in step)
            return step.packets.map(({ from, to, sender }) => {
              if (direction === asking) direction.table.changes++;
              const inner = udpPacket(PAYLOAD, { source: from, destination: to });
              return direction.receive(ipv4Packet(4, [...inner], { source: sender, destination: SELF }));
            });
          if ('operation' in step) direction.table.apply(step.operation);
          // Without a sweep: what a grace allows ends by itself.
          if ('waitMs' in step) direction.time.now += step.waitMs;
          return [];
        });
        expect(written[0]).toEqual(written[1]);
      }
      expect(keeping.counters.snapshot()).toEqual(asking.counters.snapshot());
    }),
    RUNS,
  );
});
