import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_SEGMENT_HEADER_BYTES, Segmenter } from '../../src/dataplane/segmentation.ts';
import { GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_UDP_L4 } from '../../src/wire/virtio-net-header.ts';
import { ipv4Packet, tcpPacket, udpPacket } from '../helpers/packets.ts';
import { slowSegments } from '../helpers/slow-segmentation.ts';
import { type Superpacket, tcpSuperpacket, udpSuperpacket } from '../helpers/superpackets.ts';

const PACKET = 37; // odd on purpose: nothing may depend on alignment
const BLOB = 70_000;

function segments({ bytes, gsoType, gsoSize }: Superpacket): Uint8Array[] {
  const view = new Uint8Array(BLOB + MAX_SEGMENT_HEADER_BYTES + 1).fill(0xa5);
  view.set(bytes, PACKET);
  const segmenter = new Segmenter(view);
  const count = segmenter.begin(PACKET, bytes.length, gsoType, gsoSize);
  const result: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    segmenter.writeHeaders(BLOB);
    const { headerBytes, payloadOffset, payloadBytes } = segmenter;
    result.push(
      Uint8Array.from([
        ...view.subarray(BLOB, BLOB + headerBytes),
        ...view.subarray(payloadOffset, payloadOffset + payloadBytes),
      ]),
    );
  }
  expect(view.subarray(PACKET, PACKET + bytes.length)).toEqual(bytes); // the superpacket itself is left as it was
  expect(view[BLOB + MAX_SEGMENT_HEADER_BYTES]).toBe(0xa5);
  return result;
}

test.each([
  ['TCP', tcpSuperpacket],
  ['UDP', udpSuperpacket],
])('%s: the segments are those of the slow twin, byte for byte', (_name, arbitrary) => {
  fc.assert(
    fc.property(arbitrary, (superpacket) => {
      expect(segments(superpacket)).toEqual(slowSegments(superpacket.bytes, superpacket.gsoSize));
    }),
  );
});

test('64 KB at an MTU of 1500: 46 segments', () => {
  const bytes = tcpPacket(new Array(65_535 - 52).fill(7), { tcpOptions: new Array(12).fill(1) }, false);
  const all = segments({ bytes, gsoType: GSO_TCPV4 | GSO_ECN, gsoSize: 1428 });
  expect(all.map((segment) => segment.length)).toEqual([
    ...new Array(45).fill(1480),
    52 + 65_483 - 45 * 1428,
  ]);
});

const PLAIN = tcpPacket([1, 2, 3]);

test.each([
  ['no segmentation asked for', PLAIN, GSO_NONE, 1],
  ['a segment size of 0', PLAIN, GSO_TCPV4, 0],
  ['UDP announced, TCP there', PLAIN, GSO_UDP_L4, 8],
  ['TCP announced, UDP there', udpPacket([1]), GSO_TCPV4, 8],
  ['IPv6', PLAIN.with(0, 0x60), GSO_TCPV4, 8],
  ['a header length below 20', PLAIN.with(0, 0x44), GSO_TCPV4, 8],
  ['IP options that are not there', PLAIN.slice(0, 22).with(0, 0x46), GSO_TCPV4, 8],
  ['a fragment', ipv4Packet(6, [...PLAIN.slice(20)], { fragment: 0x2000 }), GSO_TCPV4, 8],
  ['half a TCP header', PLAIN.slice(0, 39), GSO_TCPV4, 8],
  ['TCP options that are not there', PLAIN.with(32, 0xf0), GSO_TCPV4, 8],
  ['half a UDP header', udpPacket([]).slice(0, 27), GSO_UDP_L4, 8],
  ['nothing', new Uint8Array(0), GSO_TCPV4, 8],
])('not taken: %s', (_name, bytes, gsoType, gsoSize) => {
  expect(segments({ bytes, gsoType, gsoSize })).toEqual([]);
});
