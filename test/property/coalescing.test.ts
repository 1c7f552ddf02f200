import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CHECKSUM_UNVERIFIED } from '../../src/dataplane/coalesced-run.ts';
import { Coalescer } from '../../src/dataplane/coalescing.ts';
import { writeLoneHeader } from '../../src/dataplane/lone-packet.ts';
import { PieceBatch } from '../../src/dataplane/ports.ts';
import { PlainMemory } from '../../src/io/memory-links.ts';
import { writeU16 } from '../../src/wire/bytes.ts';
import { pseudoHeaderSum } from '../../src/wire/checksum.ts';
import { ipv4Destination, ipv4Source } from '../../src/wire/ipv4.ts';
import { expand, trains, withoutVoidId } from '../helpers/packet-trains.ts';
import { ipv4Packet, tcpPacket, udpPacket } from '../helpers/packets.ts';
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

/**
 * The same whether packets have room before them or lie one behind the other, as datagrams that came as one do,
 * and whether each, or all of a length that follow each other, are first asked if they plainly continue the one before.
 */
function coalesce(packets: readonly Uint8Array[], options = OPTIONS): Coalesced {
  const apart = coalesceLaid(packets, options, HEADROOM, 'add');
  expect(coalesceLaid(packets, options, 0, 'add')).toEqual(apart);
  expect(coalesceLaid(packets, options, 0, 'addNext or add')).toEqual(apart);
  expect(coalesceLaid(packets, options, 0, 'addNext in trains, or add')).toEqual(apart);
  return apart;
}

function coalesceLaid(
  packets: readonly Uint8Array[],
  options: typeof OPTIONS,
  roomBetween: number,
  how: 'add' | 'addNext or add' | 'addNext in trains, or add',
): Coalesced {
  const bytes = packets.reduce((sum, packet) => sum + packet.length + HEADROOM + 1, 16 * packets.length);
  const memory = new PlainMemory(HEADROOM + 16 + bytes);
  const view = memory.bytes.fill(0xa5);
  const coalescer = new Coalescer(memory, packets.length, options.udp);
  coalescer.setOverlayMtu(options.overlayMtu);
  coalescer.clear();
  let at = memory.allocate(0) + HEADROOM;
  const offsets = packets.map((packet) => {
    const offset = at;
    view.set(packet, offset);
    at += packet.length + (roomBetween > 0 ? roomBetween + (packet.length & 1) : 0);
    return offset;
  });
  for (let i = 0; i < packets.length; ) {
    const { length } = packets[i]!;
    const other = packets.findIndex((packet, j) => j > i && packet.length !== length);
    const alike = how === 'addNext in trains, or add' ? (other < 0 ? packets.length : other) - i : 1;
    const taken = how === 'add' ? 0 : coalescer.addNext(offsets[i]!, length, alike);
    if (taken === 0) coalescer.add(offsets[i]!, length, CHECKSUM_UNVERIFIED, i === 0 || roomBetween > 0);
    i += taken || 1;
  }
  const batch = new PieceBatch(new PlainMemory(packets.length * 32), packets.length, 2 * packets.length);
  coalescer.finish(batch);
  const writes = Array.from({ length: batch.packetCount }, (_, packet) => {
    const pieces: number[] = [];
    for (let i = batch.firstPiece(packet); i < batch.endPiece(packet); i++)
      pieces.push(...view.subarray(batch.offset(i), batch.offset(i) + batch.length(i)));
    return Uint8Array.from(pieces);
  });
  return {
    writes,
    packetsInWrite: Array.from({ length: coalescer.runCount }, (_, run) => coalescer.packetsOf(run)),
  };
}

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

test('a packet that goes by itself has the header that the coalescer would give it', () => {
  fc.assert(
    fc.property(trains, fc.constantFrom('as it is', 'partial', 'wrong'), (packets, state) => {
      for (const given of packets.filter(({ length }) => length <= OPTIONS.overlayMtu)) {
        const isWhole = (given[6]! & 0x3f) === 0 && given[7] === 0 && given.length >= 40;
        const isTransport = given[9] === 6 || given[9] === 17;
        const packet =
          state === 'as it is' || !isWhole || !isTransport || given[0] !== 0x45
            ? given
            : withChecksum(given, state);
        const bytes = new Uint8Array(10 + packet.length).fill(0xa5);
        bytes.set(packet, 10);
        writeLoneHeader(new DataView(bytes.buffer), bytes, 10, packet.length);
        expect(bytes).toEqual(vnetFor(packet));
      }
    }),
    { numRuns: 300 },
  );
});

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

test('addNext takes a stream but for its first packet, and nothing whose headers are not whole and right', () => {
  const segments = slowSegments(tcpPacket(new Array(5000).fill(1), { flags: 0x18 }, false), 1000);
  const memory = new PlainMemory(1 << 16);
  const at = memory.allocate(4096) + HEADROOM;
  const next = memory.allocate(4096) + HEADROOM;
  const coalescer = new Coalescer(memory, 8, true);
  const takes = (change: (packet: Uint8Array) => void, length = segments[1]!.length) => {
    coalescer.clear();
    memory.bytes.set(segments[0]!, at);
    coalescer.add(at, segments[0]!.length, CHECKSUM_UNVERIFIED);
    memory.bytes.set(segments[1]!, next);
    change(memory.bytes.subarray(next, next + segments[1]!.length));
    return coalescer.addNext(next, length);
  };
  expect(takes(() => {})).toBe(1);
  // Any change of any bit of the headers or the payload, and any other length.
  for (let bit = 0; bit < 60 * 8; bit++)
    expect([
      bit,
      takes((packet) => {
        packet[bit >>> 3]! ^= 1 << (bit & 7);
      }),
    ]).toEqual([bit, 0]);
  for (const length of [0, 20, 39, 40, 41, segments[1]!.length - 1, segments[1]!.length + 1])
    expect([length, takes(() => {}, length)]).toEqual([length, 0]);
});

/** What a sender's kernel and those after it may have made of a segment's checksum. */
function withChecksum(segment: Uint8Array, state: string): Uint8Array {
  const copy = Uint8Array.from(segment);
  const udp = copy[9] === 17;
  const field = copy.subarray(udp ? 26 : 36);
  const sum = pseudoHeaderSum(ipv4Source(copy, 0), ipv4Destination(copy, 0), copy[9]!, copy.length - 20);
  if (state !== 'complete') writeU16(field, 0, sum);
  if (state === 'wrong') field[1]! ^= 1;
  return copy;
}

test.each([
  ['TCP', tcpPacket],
  ['UDP', udpPacket],
])('%s: streams of complete, partial and wrong checksums, mixed', (_name, packet) => {
  const states = fc.array(fc.constantFrom('complete', 'partial', 'partial', 'partial', 'wrong'), {
    minLength: 2,
    maxLength: 12,
  });
  fc.assert(
    fc.property(states, fc.integer({ min: 1, max: 100 }), (checksums, last) => {
      const payload = Array.from({ length: 100 * (checksums.length - 1) + last }, (_, i) => i & 255);
      const segments = slowSegments(packet(payload, {}, false), 100).map((segment, i) =>
        withChecksum(segment, checksums[i]!),
      );
      expect(coalesce(segments).writes).toEqual(slowCoalesce(segments, OPTIONS));
    }),
  );
});

/** Bytes of a payload whose complete checksum equals the pseudo-header's sum: two of them are free to make it so. */
function looksPartialThoughComplete(
  packet: typeof tcpPacket | typeof udpPacket,
  payload: number[],
): Uint8Array {
  const at = payload.length - 2;
  for (let value = 0; value < 65_536; value++) {
    payload.splice(at, 2, value >>> 8, value & 255);
    const complete = packet(payload, {});
    if (withChecksum(complete, 'partial').every((byte, i) => byte === complete[i])) return complete;
  }
  throw new Error('no two bytes give that checksum');
}

test.each([
  ['TCP', tcpPacket],
  ['UDP', udpPacket],
])('%s: a complete checksum that equals the pseudo-header sum is finished to itself', (_name, packet) => {
  const payload = Array.from({ length: 100 }, (_, i) => i);
  const lone = looksPartialThoughComplete(packet, payload);
  const { writes } = coalesce([lone]);
  expect(writes).toEqual(slowCoalesce([lone], OPTIONS));
  expect(writes[0]![0]).toBe(1);
  expect(expand(writes[0]!)).toEqual([lone]);
  const segments = slowSegments(packet([...payload, ...payload, 7], {}, false), 100);
  for (const place of [0, 1]) {
    const stream = segments.map((segment, i) => (i === place ? lone : segment));
    expect(coalesce(stream).writes).toEqual(slowCoalesce(stream, OPTIONS));
  }
});

test('a stream of partial checksums becomes one write without a look at its payload', () => {
  const superpacket = tcpPacket(new Array(65_000).fill(3), { flags: 0x18 }, false);
  const segments = slowSegments(superpacket, 1428).map((segment) => withChecksum(segment, 'partial'));
  const memory = new PlainMemory(1 << 17);
  const summed: number[] = [];
  const coalescer = new Coalescer(memory, segments.length, true, (_offset, length) => summed.push(length));
  const taken = segments.map((segment) => {
    const at = memory.allocate(HEADROOM + segment.length) + HEADROOM;
    memory.bytes.set(segment, at);
    if (coalescer.addNext(at, segment.length) === 1) return true;
    coalescer.add(at, segment.length, CHECKSUM_UNVERIFIED);
    return false;
  });
  expect(taken).toEqual(segments.map((_, i) => i > 0));
  expect(summed).toEqual([]);
  const batch = new PieceBatch(memory, 1, segments.length);
  coalescer.finish(batch);
  const at = batch.offset(0) + 10;
  expect(memory.bytes.subarray(at, at + 40)).toEqual(superpacket.subarray(0, 40));
});
