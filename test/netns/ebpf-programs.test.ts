/**
 * The same packets through the programs (in the kernel, by BPF_PROG_TEST_RUN), their twins and the slow path: what
 * the programs take comes out byte for byte as the slow path would have it, and what it drops they never take.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inboundTwin } from '../../src/ebpf/inbound-twin.ts';
import { CELL_OUT_BYTES, CELL_PACKETS, FOREVER_NS } from '../../src/ebpf/layout.ts';
import { outboundTwin } from '../../src/ebpf/outbound-twin.ts';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { kernelMonotonicNs } from '../../src/io/kernel-clock.ts';
import { type Ipv4, ipv4 } from '../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { prefix } from '../../src/ip/prefix.ts';
import { readU16 } from '../../src/wire/bytes.ts';
import { framed, GO_ON, loadPrograms, REDIRECTED, twinTables } from '../helpers/ebpf.ts';
import {
  CONFIG,
  makeInbound,
  makeOutbound,
  OTHER_PEER,
  PEER,
  SELF,
  STRANGER,
} from '../helpers/memory-direction.ts';
import { ipv4Packet } from '../helpers/packets.ts';

const NARROW_PEER = ipv4('10.0.3.12');
const UDP_PEER = ipv4('10.0.3.13');

/** Every kind of entry: shared prefixes, several next hops, loops, peers without protocol 4, unknown peers. */
const TABLE: ForwardingConfig = {
  ...CONFIG,
  entries: [
    { prefix: prefix('192.168.77.0/24'), nextHops: [PEER] },
    { prefix: prefix('192.168.77.64/26'), nextHops: [PEER, OTHER_PEER] },
    { prefix: prefix('192.168.77.130/32'), nextHops: [NARROW_PEER] },
    { prefix: prefix('192.168.78.0/24'), nextHops: [UDP_PEER] },
    { prefix: prefix('192.168.79.0/24'), nextHops: [SELF] },
    { prefix: prefix('192.168.80.0/24'), nextHops: [STRANGER] },
    { prefix: prefix('192.168.81.0/24'), nextHops: 'inner-destination' },
  ],
  peers: [
    ...CONFIG.peers,
    { address: NARROW_PEER, transport: 'ipip', udpPort: 0, mtu: 600 as UnderlayMtu },
    { address: UDP_PEER, transport: 'udp', udpPort: 5555, mtu: 1500 as UnderlayMtu },
  ],
  sources: [
    { prefix: prefix('192.168.0.0/16'), owners: 'any-peer' },
    { prefix: prefix('192.168.77.0/24'), owners: [PEER] },
    { prefix: prefix('192.168.77.64/26'), owners: [PEER, OTHER_PEER] },
    { prefix: prefix('192.168.77.130/32'), owners: [OTHER_PEER] },
    { prefix: prefix('192.168.42.64/26'), owners: 'local' },
  ],
};
const TABLES = twinTables(TABLE);

const INNER_ADDRESSES = [
  '192.168.42.65',
  '192.168.77.1',
  '192.168.77.70',
  '192.168.77.130',
  '192.168.78.1',
  '192.168.79.1',
  '192.168.80.1',
  '192.168.81.1',
  '192.168.1.1',
  '172.16.0.1',
  '8.8.8.8',
  '10.0.3.10',
  '10.0.2.15',
].map(ipv4);
const OUTER_SOURCES = [
  PEER,
  PEER,
  PEER,
  OTHER_PEER,
  NARROW_PEER,
  UDP_PEER,
  STRANGER,
  ipv4('172.16.0.1'),
  SELF,
];

let programs: ReturnType<typeof loadPrograms>;
beforeAll(() => {
  programs = loadPrograms(TABLE);
});
afterAll(() => programs?.close());

const usually = <T>(value: T, ...others: T[]) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(value) },
    { weight: 2, arbitrary: fc.constantFrom(...others) },
  );

/** Packets that are mostly plain, each with a fair chance of being wrong in one way. */
const innerPacket = (destinations: readonly Ipv4[]) =>
  fc
    .record({
      protocol: usually(17, 1, 4, 6, 50),
      tos: fc.integer({ min: 0, max: 255 }),
      fragment: usually(0x4000, 0, 0x2000, 0x0003, 0x8000),
      ttl: usually(63, 0, 1, 255),
      source: fc.constantFrom(...INNER_ADDRESSES),
      destination: fc.constantFrom(...destinations),
      options: usually<number[]>([], [1, 1, 1, 0]),
      payload: usually(100, 0, 1, 560, 561, 1459, 1460, 1461, 1500),
      damage: usually('none', 'checksum', 'cut', 'padded', 'version', 'header length', 'total length'),
    })
    .map((fields) => {
      // Neither TCP nor UDP: what offloads make of those is the business of their own tests.
      const protocol = fields.protocol === 17 ? 132 : fields.protocol;
      return damaged(ipv4Packet(protocol, new Array(fields.payload).fill(0x5a), fields), fields.damage);
    });

function damaged(packet: Uint8Array, damage: string): Uint8Array {
  const wrong = packet.slice();
  if (damage === 'checksum') wrong[10]! ^= 0x5a;
  if (damage === 'version') wrong[0]! ^= 0x20;
  if (damage === 'header length') wrong[0] = 0x44;
  if (damage === 'total length') wrong[2]! ^= 1;
  // BPF_PROG_TEST_RUN refuses IPv4 that is shorter than its header (EINVAL).
  if (damage === 'cut') return wrong.slice(0, Math.max(20, wrong.length - 7));
  return damage === 'padded' ? Uint8Array.from([...wrong, 0, 0, 0]) : wrong;
}

/** Without the id, and the checksum that depends on it, where the packet may be fragmented: the id is drawn. */
function comparable(outer: Uint8Array): string {
  const bytes = outer.slice();
  if ((readU16(bytes, 6) & 0x4000) === 0) for (const at of [4, 5, 10, 11]) bytes[at] = 0;
  return Buffer.from(bytes).toString('hex');
}

test('outbound: program, twin and slow path agree', () => {
  fc.assert(
    fc.property(innerPacket(INNER_ADDRESSES), (packet) => {
      const ran = programs.outbound(packet);
      const wanted = outboundTwin(packet, TABLES.outbound);
      const slowPath = makeOutbound(TABLE);
      const sent = slowPath.send(Uint8Array.from([...new Array(10).fill(0), ...packet]));
      if (wanted.path === 'slow') {
        expect([ran.verdict, ran.reason]).toEqual([GO_ON, wanted.reason]);
        expect(ran.frame).toEqual(framed(packet));
        return;
      }
      expect([ran.verdict, ran.reason]).toEqual([REDIRECTED, undefined]);
      const outer = ran.frame.slice(14);
      expect(comparable(outer)).toBe(comparable(wanted.packet));
      expect(sent.map(({ bytes }) => comparable(bytes))).toEqual([comparable(outer)]);
      const counters = slowPath.counters.snapshot();
      expect(ran.cells[CELL_PACKETS]).toBe(counters.outbound_out_underlay_packets);
      expect(ran.cells[CELL_OUT_BYTES]).toBe(counters.outbound_out_underlay_bytes);
    }),
    { numRuns: 400 },
  );
});

const outerFrame = fc
  .record({
    inner: innerPacket(INNER_ADDRESSES),
    source: fc.constantFrom(...OUTER_SOURCES),
    destination: usually<Ipv4>(SELF, STRANGER),
    protocol: usually(4, 17),
    tos: fc.integer({ min: 0, max: 255 }),
    fragment: usually(0x4000, 0, 0x2000, 0x0003),
    options: usually<number[]>([], [1, 1, 1, 0]),
    damage: usually('none', 'checksum', 'cut', 'padded', 'version', 'header length', 'total length'),
  })
  .map((f) => framed(damaged(ipv4Packet(f.protocol, [...f.inner], f), f.damage)));

test('inbound: program, twin and slow path agree', () => {
  fc.assert(
    fc.property(outerFrame, (frame) => {
      const ran = programs.inbound(frame);
      const wanted = inboundTwin(frame, TABLES.inbound);
      if (wanted.path !== 'fast') {
        const reason = wanted.path === 'slow' ? wanted.reason : undefined;
        expect([ran.verdict, ran.reason]).toEqual([GO_ON, reason]);
        expect(ran.frame).toEqual(frame);
        return;
      }
      const slowPath = makeInbound(TABLE);
      const received = slowPath.receive(frame.slice(14));
      expect([ran.verdict, ran.reason]).toEqual([REDIRECTED, undefined]);
      expect(ran.frame).toEqual(wanted.frame);
      expect(received.map(({ packet }) => Buffer.from(packet).toString('hex'))).toEqual([
        Buffer.from(ran.frame.slice(14)).toString('hex'),
      ]);
      const counters = slowPath.counters.snapshot();
      expect(ran.cells[CELL_PACKETS]).toBe(counters.inbound_out_device_packets);
      expect(ran.cells[CELL_OUT_BYTES]).toBe(counters.inbound_out_device_bytes);
    }),
    { numRuns: 600 },
  );
});

test('congestion: every pair of code points comes out as RFC 6040 has it', () => {
  for (let inner = 0; inner < 4; inner++)
    for (let outer = 0; outer < 4; outer++) {
      const packet = ipv4Packet(132, [1, 2, 3, 4], { tos: 0xb8 | inner, source: ipv4('192.168.77.1') });
      const frame = framed(
        ipv4Packet(4, [...packet], { tos: 0x20 | outer, source: PEER, destination: SELF }),
      );
      const ran = programs.inbound(frame);
      const wanted = inboundTwin(frame, TABLES.inbound);
      expect(ran.verdict === REDIRECTED ? ran.frame : ran.reason).toEqual(
        wanted.path === 'fast' ? wanted.frame : 'ecn',
      );
    }
});

test('an agent that stands still: after its time the programs leave all to the slow path, until it is back', () => {
  const plain = ipv4Packet(132, [1, 2, 3], {
    destination: ipv4('192.168.77.1'),
    source: ipv4('192.168.42.65'),
  });
  const outer = ipv4Packet(
    4,
    [...ipv4Packet(132, [1, 2, 3], { source: ipv4('192.168.77.1'), destination: ipv4('192.168.42.65') })],
    { source: PEER, destination: SELF },
  );
  const ran = () => [programs.outbound(plain), programs.inbound(framed(outer))];
  const verdicts = () => ran().map(({ verdict, reason }) => [verdict, reason]);
  const second = 1_000_000_000n;
  const fast = [REDIRECTED, undefined];
  try {
    programs.onUntil(kernelMonotonicNs() + 60n * second);
    expect(verdicts()).toEqual([fast, fast]);
    programs.onUntil(kernelMonotonicNs() - second);
    expect(verdicts()).toEqual(ran().map(() => [GO_ON, 'frozen']));
    expect(outboundTwin(plain, { ...TABLES.outbound, frozen: true })).toMatchObject({ reason: 'frozen' });
    expect(inboundTwin(framed(outer), { ...TABLES.inbound, frozen: true })).toMatchObject({
      reason: 'frozen',
    });
    programs.onUntil(0n);
    expect(verdicts()).toEqual(ran().map(() => [GO_ON, 'off']));
  } finally {
    programs.onUntil(FOREVER_NS);
  }
  expect(verdicts()).toEqual([fast, fast]);
});
