/** Trains of packets, each continuing its flow where the last one of it ended, but for what is odd about some. */
import fc from 'fast-check';
import { completeChecksum } from '../../src/wire/checksum.ts';
import { writeIpv4Checksum } from '../../src/wire/ipv4.ts';
import { icmpPacket, tcpPacket, udpPacket } from './packets.ts';
import { slowSegments } from './slow-segmentation.ts';

/** What a kernel makes of one write when it sends it on: the packets that it stands for. */
export function expand(write: Uint8Array): Uint8Array[] {
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
export function withoutVoidId(packet: Uint8Array): Uint8Array {
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

export const trains = fc
  .tuple(fc.array(step, { minLength: 1, maxLength: 40 }), fc.boolean())
  .map(([steps, constantIds]) => train(steps, constantIds));
