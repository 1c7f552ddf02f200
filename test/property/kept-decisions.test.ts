/** What a direction keeps of the packet before is what it would find anew: its twin gets a stranger's packet between any two. */
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
/** In the peer's block, and borrowed from it. */
const ADDRESSES = ['192.168.77.129', '192.168.77.130'].map(ipv4);

/** Few, so that most packets are as the one before. */
const address = fc.constantFrom(...ADDRESSES);
const somePrefix = fc.constantFrom(...PREFIXES);
const peer = fc.constantFrom(...PEERS);
const owners = fc.oneof(
  fc.subarray(PEERS, { minLength: 1 }),
  fc.constantFrom('any-peer' as const, 'local' as const),
);

const changeOfPeer = fc.oneof(
  fc
    .tuple(
      peer,
      fc.constantFrom('ipip' as const, 'udp' as const, 'none' as const),
      fc.constantFrom(576, 1400),
    )
    .map(([a, transport, mtu]) => ({
      op: 'set-peer' as const,
      peer: { address: a, transport, udpPort: 5555, mtu: mtu as UnderlayMtu },
    })),
  peer.map((a) => ({ op: 'delete-peer' as const, address: a })),
  fc
    .constantFrom([SELF], [SELF, PEER], null)
    .map((localAddresses) => ({ op: 'set-local' as const, outerSource: SELF, localAddresses })),
);
const changeOfEntry = fc.oneof(
  fc
    .tuple(somePrefix, fc.oneof(fc.subarray(PEERS), fc.constant('inner-destination' as const)))
    .map(([p, nextHops]) => ({ op: 'set-entry' as const, entry: { prefix: p, nextHops } })),
  somePrefix.map((p) => ({ op: 'delete-entry' as const, prefix: p })),
);
const changeOfSource = fc.oneof(
  fc
    .tuple(somePrefix, owners)
    .map(([p, o]) => ({ op: 'set-source' as const, source: { prefix: p, owners: o } })),
  somePrefix.map((p) => ({ op: 'delete-source' as const, prefix: p })),
);

interface Packet {
  readonly from: Ipv4;
  readonly to: Ipv4;
  readonly sender: Ipv4;
}

type Step =
  | { readonly packet: Packet }
  | { readonly operation: ForwardingOperation }
  | { readonly waitMs: number }
  | { readonly learns: Ipv4; readonly mtu: number }
  | { readonly unreachable: Ipv4 };

const packet = fc.record({ packet: fc.record({ from: address, to: address, sender: peer }) });
const wait = fc.record({ waitMs: fc.constantFrom(1001, 700_000) });
const outboundStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: packet },
  fc.record({ operation: fc.oneof(changeOfEntry, changeOfPeer) }),
  wait,
  fc.record({ learns: peer, mtu: fc.constantFrom(590, 1300) }),
  fc.record({ unreachable: peer }),
);
const inboundStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: packet },
  fc.record({ operation: fc.oneof(changeOfSource, changeOfPeer) }),
  wait,
);
const many = (step: fc.Arbitrary<Step>) => fc.array(step, { minLength: 30, maxLength: 60, size: 'max' });
const RUNS = { numRuns: 100 };
const STRANGERS = { source: STRANGER, destination: STRANGER };
/** With its headers longer than the smallest of the MTUs. */
const PAYLOAD = Array<number>(600).fill(1);

test('outbound', () => {
  fc.assert(
    fc.property(many(outboundStep), (list) => {
      const keeping = makeOutbound();
      const asking = makeOutbound();
      for (const step of list) {
        const sent = [keeping, asking].map((direction) => {
          const { table, paths, time } = direction;
          if ('packet' in step) {
            const { from, to } = step.packet;
            if (direction === asking) direction.send(fromTun(udpPacket([], STRANGERS)));
            const before = direction.datagramSink.sent.length;
            const raw = direction.send(fromTun(udpPacket(PAYLOAD, { source: from, destination: to })));
            return [raw, direction.datagramSink.sent.slice(before)];
          }
          if ('operation' in step) table.apply(step.operation);
          else if ('waitMs' in step) time.now += step.waitMs;
          else if ('learns' in step) paths.learnMtu(table.peers.slotOf(step.learns), step.mtu);
          else paths.noteUnreachable(table.peers.slotOf(step.unreachable));
          return [];
        });
        expect(sent[0]).toEqual(sent[1]);
      }
    }),
    RUNS,
  );
});

test('inbound', () => {
  fc.assert(
    fc.property(many(inboundStep), (list) => {
      const keeping = makeInbound();
      const asking = makeInbound();
      for (const step of list) {
        const written = [keeping, asking].map((direction) => {
          if ('packet' in step) {
            const { from, to, sender } = step.packet;
            if (direction === asking)
              direction.receive(ipv4Packet(4, [0], { source: STRANGER, destination: SELF }));
            const inner = udpPacket(PAYLOAD, { source: from, destination: to });
            return direction.receive(ipv4Packet(4, [...inner], { source: sender, destination: SELF }));
          }
          if ('operation' in step) direction.table.apply(step.operation);
          // Without a sweep: what a grace allows ends by itself.
          if ('waitMs' in step) direction.time.now += step.waitMs;
          return [];
        });
        expect(written[0]).toEqual(written[1]);
      }
    }),
    RUNS,
  );
});
