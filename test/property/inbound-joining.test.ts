/**
 * Inbound joins a packet to the one before without asking again what that one was asked. The slow twin is Inbound
 * itself, given every packet in a batch of its own, where there is none before: the same packets arrive in the same
 * order within their flows, and the same ones are dropped for the same reasons.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { prefix } from '../../src/ip/prefix.ts';
import { CONFIG, makeInbound, OTHER_PEER, PEER, SELF, STRANGER } from '../helpers/memory-direction.ts';
import { expand, trains, withoutVoidId } from '../helpers/packet-trains.ts';
import { ipv4Packet, tcpPacket, W1 } from '../helpers/packets.ts';
import { slowSegments } from '../helpers/slow-segmentation.ts';

/** What may be odd about an outer header. */
const ODD = [
  ...['other peer', 'stranger', 'not ours', 'CE', 'ECT(1)', 'DSCP', 'options', 'checksum'],
  ...['fragment', 'protocol', 'padded', 'cut', 'version', 'inner checksum'],
];
const PACKETS = 40;
const outerOddities = fc.array(
  fc.constantFrom(...new Array(12).fill('nothing'), ...ODD) as fc.Arbitrary<string>,
  {
    minLength: PACKETS,
    maxLength: PACKETS,
  },
);
/** Six packets of a flow that is the peer's; of zeros, so that a byte which did not arrive is not missed by the checksum. */
const STREAM = slowSegments(
  tcpPacket(new Array(580).fill(0), { source: 0xc0a80c01, destination: W1, tos: 2 }, false),
  100,
);

const SOURCES: Readonly<Record<string, number>> = { 'other peer': OTHER_PEER, stranger: STRANGER };
const TOS: Readonly<Record<string, number>> = { CE: 3, 'ECT(1)': 1, DSCP: 0x2e << 2 };

function wrap(given: Uint8Array, odd: string): Uint8Array {
  const inner = Uint8Array.from(given);
  if (odd === 'inner checksum') inner[10]! ^= 1;
  const outer = ipv4Packet(odd === 'protocol' ? 17 : 4, [...inner], {
    source: SOURCES[odd] ?? PEER,
    destination: odd === 'not ours' ? STRANGER : SELF,
    tos: TOS[odd] ?? 2,
    fragment: odd === 'fragment' ? 0x2000 : 0x4000,
    options: odd === 'options' ? [1, 1, 1, 0] : [],
    ttl: 61,
  });
  if (odd === 'checksum') outer[10]! ^= 1;
  if (odd === 'version') outer[0] = 0x65;
  if (odd === 'cut') return outer.slice(0, -1);
  return odd === 'padded' ? Uint8Array.from([...outer, 0, 0]) : outer;
}

/** Two of the flows of the trains are this peer's alone; nobody may send the third. */
const OWNED = { ...CONFIG, sources: [{ prefix: prefix('192.168.12.0/24'), owners: [PEER] }] };
const rig = () => makeInbound(OWNED, PACKETS, 4096);

interface Outcome {
  readonly flows: Readonly<Record<string, readonly string[]>>;
  readonly counters: Readonly<Record<string, number>>;
}

/** What came out, flow by flow, as the packets that it stands for. */
function outcome(made: ReturnType<typeof makeInbound>): Outcome {
  const flows: Record<string, string[]> = {};
  for (const { bytes } of made.sink.sent)
    for (const packet of expand(bytes)) {
      const flow = [(packet[6]! & 0x3f) !== 0 || packet[7] !== 0, packet[9], ...packet.slice(12, 24)].join();
      flows[flow] = [...(flows[flow] ?? []), Buffer.from(withoutVoidId(packet)).toString('hex')];
    }
  expect(made.gap()).toBe(0);
  return { flows, counters: made.moved() };
}

/** Anything; and streams with one odd packet, of which all others are joined. */
const SOME = fc.oneof(
  fc.tuple(
    trains.map((packets) => packets.filter((packet) => packet.length <= 1400)),
    outerOddities,
  ),
  fc
    .tuple(fc.constant(STREAM), fc.nat(STREAM.length - 1), fc.constantFrom(...ODD))
    .map(([stream, at, odd]) => [stream, stream.map((_, i) => (i === at ? odd : 'nothing'))]) as fc.Arbitrary<
    [Uint8Array[], string[]]
  >,
);

test('protocol 4: a batch is what its packets are, each by itself', () => {
  fc.assert(
    fc.property(SOME, ([inner, odd]) => {
      const packets = inner.map((packet, i) => wrap(packet, odd[i]!));
      const [together, apart] = [rig(), rig()];
      together.receive(...packets);
      for (const packet of packets) apart.receive(packet);
      expect(outcome(together)).toEqual(outcome(apart));
    }),
    { numRuns: 300 },
  );
});

test('datagrams: a slot of many is what they are, each by itself', () => {
  fc.assert(
    fc.property(SOME, fc.boolean(), ([inner, odd], halves) => {
      const [together, apart] = [rig(), rig()];
      const datagrams = inner.map((packet, i) => ({
        bytes: odd[i] === 'inner checksum' ? packet.with(10, packet[10]! ^ 1) : packet,
        sender: SOURCES[odd[i]!] ?? PEER,
        destination: odd[i] === 'not ours' ? STRANGER : SELF,
        tos: TOS[odd[i]!] ?? 2,
      }));
      together.receiveDatagrams(datagrams, halves ? 3 : 64);
      for (const datagram of datagrams) apart.receiveDatagrams([datagram], 1);
      const [fast, slow] = [outcome(together), outcome(apart)];
      const { inbound_in_underlay_superpackets: _, ...counters } = fast.counters;
      expect({ ...fast, counters }).toEqual(slow);
    }),
    { numRuns: 300 },
  );
});
