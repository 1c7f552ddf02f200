import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CHECKSUM_UNVERIFIED, Coalescer } from '../../src/dataplane/coalescing.ts';
import { PieceBatch } from '../../src/dataplane/ports.ts';
import { PlainMemory } from '../../src/io/memory-links.ts';
import { completeChecksum } from '../../src/wire/checksum.ts';
import { writeIpv4Checksum } from '../../src/wire/ipv4.ts';
import { icmpPacket, ipv4Packet, tcpPacket, udpPacket } from '../helpers/packets.ts';
import { slowCoalesce } from '../helpers/slow-coalescing.ts';
import { slowSegments } from '../helpers/slow-segmentation.ts';
import { tcpSuperpacket, udpSuperpacket } from '../helpers/superpackets.ts';

const OPTIONS = { udp: true, overlayMtu: 1480 };
const HEADROOM = 64;

interface Coalesced {
  /** Bytes of each write, virtio-net header first. */
  readonly writes: Uint8Array[];
  readonly packetsInWrite: number[];
}

/** The same whether packets have room before them or lie one behind the other, as datagrams that came as one do. */
function coalesce(packets: readonly Uint8Array[], options = OPTIONS): Coalesced {
  const apart = coalesceLaid(packets, options, HEADROOM);
  expect(coalesceLaid(packets, options, 0)).toEqual(apart);
  return apart;
}

function coalesceLaid(
  packets: readonly Uint8Array[],
  options: typeof OPTIONS,
  roomBetween: number,
): Coalesced {
  const bytes = packets.reduce((sum, packet) => sum + packet.length + HEADROOM + 1, 16 * packets.length);
  const memory = new PlainMemory(HEADROOM + 16 + bytes);
  const view = memory.bytes.fill(0xa5);
  const coalescer = new Coalescer(memory, packets.length, options.udp);
  coalescer.setOverlayMtu(options.overlayMtu);
  coalescer.clear();
  let at = memory.allocate(0) + HEADROOM;
  for (const [i, packet] of packets.entries()) {
    view.set(packet, at);
    coalescer.add(at, packet.length, CHECKSUM_UNVERIFIED, i === 0 || roomBetween > 0);
    at += packet.length + (roomBetween > 0 ? roomBetween + (packet.length & 1) : 0);
  }
  const batch = new PieceBatch(packets.length, 2 * packets.length);
  coalescer.finish(batch);
  const writes = Array.from({ length: batch.packetCount }, (_, packet) => {
    const pieces: number[] = [];
    for (let i = batch.firstPiece[packet]!; i < batch.firstPiece[packet + 1]!; i++)
      pieces.push(...view.subarray(batch.offset[i]!, batch.offset[i]! + batch.length[i]!));
    return Uint8Array.from(pieces);
  });
  return { writes, packetsInWrite: [...coalescer.runPackets.subarray(0, coalescer.runCount)] };
}

/** What a kernel makes of one write when it sends it on: the packets that it stands for. */
function expand(write: Uint8Array): Uint8Array[] {
  const gsoType = write[1]!;
  const packet = write.slice(10);
  if (gsoType !== 0) return slowSegments(packet, write[4]! + write[5]! * 256);
  if (write[0] === 1) {
    const start = write[6]! + write[7]! * 256;
    completeChecksum(packet, start, write[8]!, packet.length);
  }
  return [packet];
}

/** With DF set an id means nothing (RFC 6864), and runs of constant ids come out counting. */
function withoutVoidId(packet: Uint8Array): Uint8Array {
  if ((packet[6]! & 0x40) === 0) return packet;
  const copy = packet.with(4, 0).with(5, 0);
  writeIpv4Checksum(copy, 0);
  return copy;
}

const FLOWS = [
  { source: 0xc0a80c01, sourcePort: 40_000 },
  { source: 0xc0a80c01, sourcePort: 40_001 },
  { source: 0x0c01c0a8, sourcePort: 40_000 },
];

/** One step of a train: which flow, and what is odd about this packet (mostly nothing). */
const step = fc.record({
  flow: fc.nat(FLOWS.length - 1),
  protocol: fc.constantFrom<('tcp' | 'udp')[]>('tcp', 'tcp', 'tcp', 'udp'),
  bytes: fc.constantFrom(11, 11, 11, 11, 11, 11, 10, 3, 12, 1, 0),
  seed: fc.integer({ min: 0, max: 255 }),
  odd: fc.constantFrom(
    ...new Array(24).fill('nothing'),
    ...[
      'gap',
      'again',
      'PSH',
      'FIN',
      'SYN',
      'RST',
      'URG',
      'CWR',
      'ECE',
      'tos',
      'ttl',
      'no DF',
      'id',
      'options',
    ],
    ...[
      'window',
      'ack',
      'corrupt',
      'partial',
      'partial',
      'fragment',
      'IP options',
      'ICMP',
      'reserved',
      'jumbo',
    ],
    ...['constant id', 'no checksum', 'udp length'],
  ) as fc.Arbitrary<string>,
});

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const FLAGS: Readonly<Record<string, number>> = {
  PSH: 8,
  FIN: 1,
  SYN: 2,
  RST: 4,
  URG: 32,
  CWR: 128,
  ECE: 64,
};

/** A train of packets, each continuing its flow where the last one of it ended. */
function train(steps: readonly Step[], constantIds: boolean): Uint8Array[] {
  const sequences = [0xffff_fff0, 5, 1000];
  const ids = [0xfffe, 7, 100];
  return steps.map(({ flow, protocol, bytes, seed, odd }) => {
    const length = odd === 'jumbo' ? 2000 : bytes;
    const payload = Array.from({ length }, (_, i) => (seed + i) & 255);
    if (odd === 'gap') sequences[flow]! += 5;
    if (odd === 'again') sequences[flow] = Math.max(0, sequences[flow]! - length);
    if (!constantIds && odd !== 'constant id') ids[flow]! += odd === 'id' ? 3 : 1;
    const common = {
      ...FLOWS[flow]!,
      id: ids[flow]! % 65_536,
      tos: odd === 'tos' ? 3 : 2,
      ttl: odd === 'ttl' ? 62 : 63,
      fragment: odd === 'no DF' ? 0 : odd === 'reserved' ? 0xc000 : odd === 'fragment' ? 0x2000 : 0x4000,
      options: odd === 'IP options' ? [1, 1, 1, 0] : [],
    };
    if (odd === 'ICMP') return icmpPacket(8, 0, seed, payload, common);
    const complete = odd !== 'partial' && odd !== 'jumbo';
    let packet: Uint8Array;
    if (protocol === 'udp') packet = udpPacket(payload, common, complete);
    else {
      packet = tcpPacket(
        payload,
        {
          ...common,
          sequence: sequences[flow]! % 2 ** 32,
          acknowledgement: odd === 'ack' ? 78 : 77,
          window: odd === 'window' ? 511 : 512,
          flags: 0x10 | (FLAGS[odd] ?? 0),
          tcpOptions: [1, 1, 8, 10, 0, 0, 0, odd === 'options' ? 2 : 1, 0, 0, 0, 9],
        },
        complete,
      );
      sequences[flow]! += length;
    }
    if (odd === 'corrupt') packet[packet.length - 1]! ^= 0x40;
    if (odd === 'no checksum' && protocol === 'udp') packet.fill(0, 26, 28);
    if (odd === 'udp length' && protocol === 'udp') packet[25]! ^= 1;
    return packet;
  });
}

const trains = fc
  .tuple(fc.array(step, { minLength: 1, maxLength: 40 }), fc.boolean())
  .map(([steps, constantIds]) => train(steps, constantIds));

test('the writes are those of the slow twin, byte for byte', () => {
  fc.assert(
    fc.property(trains, fc.boolean(), (packets, udp) => {
      const options = { ...OPTIONS, udp };
      expect(coalesce(packets, options).writes).toEqual(slowCoalesce(packets, options));
    }),
    { numRuns: 400 },
  );
});

test('no packet is lost, doubled, changed, or moved within its flow', () => {
  // Fragments go by what is held of their flow, as in the kernel's GRO; among themselves they keep their order.
  const isFragment = (packet: Uint8Array) => (packet[6]! & 0x3f) !== 0 || packet[7] !== 0;
  const flowOf = (packet: Uint8Array) =>
    [isFragment(packet), ...packet.subarray(9, 10), ...packet.subarray(12, 24)].join();
  // A superpacket that came without its segment size cannot come out as it went in.
  const kept = trains.map((packets) => packets.filter((packet) => packet.length <= OPTIONS.overlayMtu));
  fc.assert(
    fc.property(kept, (packets) => {
      const { writes } = coalesce(packets);
      const came = packets.flatMap((packet) => expand(vnetFor(packet))).map(withoutVoidId);
      const went = writes.flatMap(expand).map(withoutVoidId);
      for (const flow of new Set(came.map(flowOf)))
        expect(went.filter((p) => flowOf(p) === flow)).toEqual(came.filter((p) => flowOf(p) === flow));
      expect(went.length).toBe(came.length);
    }),
    { numRuns: 400 },
  );
});

/** A lone packet as `coalesce` hands it on: its partial checksum, if it is one, is named. */
function vnetFor(packet: Uint8Array): Uint8Array {
  return coalesce([packet]).writes[0]!;
}

test('the counts of packets add up, so that they can be conserved', () => {
  fc.assert(
    fc.property(trains, (packets) => {
      const { writes, packetsInWrite } = coalesce(packets);
      expect(packetsInWrite).toEqual(writes.map((write) => expand(write).length));
    }),
  );
});

test.each([
  ['TCP', tcpSuperpacket],
  ['UDP', udpSuperpacket],
])('%s: what segmentation took apart, coalescing puts together again', (_name, arbitrary) => {
  const NOT_COALESCED = 0x02 | 0x04 | 0x20; // SYN, RST, URG
  const usual = arbitrary
    .filter(({ bytes }) => bytes[0] === 0x45) // no IP options: GRO leaves those alone
    .filter(({ bytes, gsoType }) => gsoType === 5 || (bytes[33]! & NOT_COALESCED) === 0);
  fc.assert(
    fc.property(usual, ({ bytes, gsoSize }) => {
      const segments = slowSegments(bytes, gsoSize);
      const { writes } = coalesce(segments, { udp: true, overlayMtu: 65_535 });
      // One segment stays as it is; more become the superpacket with the partial checksum that it was.
      if (segments.length === 1) expect(writes.map((write) => write.slice(10))).toEqual(segments);
      else expect(writes.map((write) => write.slice(10))).toEqual([bytes]);
    }),
  );
});

test('64 KB of MTU packets become one write of all of their pieces', () => {
  const superpacket = tcpPacket(new Array(65_000).fill(3), { flags: 0x18 }, false);
  const { writes, packetsInWrite } = coalesce(slowSegments(superpacket, 1428));
  expect(packetsInWrite).toEqual([46]);
  expect(writes[0]!.subarray(10)).toEqual(superpacket);
  expect([...writes[0]!.subarray(0, 10)]).toEqual([1, 1, 40, 0, 1428 & 255, 1428 >> 8, 20, 0, 16, 0]);
});

test('a superpacket that a kernel left whole gets the segment size that fits the overlay', () => {
  const whole = tcpPacket(new Array(9000).fill(3), { flags: 0x98 }, false);
  const { writes, packetsInWrite } = coalesce([whole]);
  expect([...writes[0]!.subarray(0, 10)]).toEqual([1, 0x81, 40, 0, 1440 & 255, 1440 >> 8, 20, 0, 16, 0]);
  expect(writes[0]!.subarray(10)).toEqual(whole);
  expect(packetsInWrite).toEqual([7]);
});

test('a merged run never exceeds what an IPv4 header can say', () => {
  const packets = slowSegments(tcpPacket(new Array(65_495).fill(1), {}, false), 1440);
  const more = tcpPacket(new Array(1440).fill(2), { sequence: 1 + 45 * 1440, id: 0x1234 + 45 });
  const { packetsInWrite } = coalesce([...packets.slice(0, 45), more]);
  expect(packetsInWrite).toEqual([45, 1]);
});

test('a fragment of a flow does not disturb it', () => {
  const [a, b] = slowSegments(tcpPacket(new Array(20).fill(1), {}, false), 10);
  const { packetsInWrite } = coalesce([a!, ipv4Packet(6, [1, 2, 3], { fragment: 3 }), b!]);
  expect(packetsInWrite).toEqual([2, 1]);
});
