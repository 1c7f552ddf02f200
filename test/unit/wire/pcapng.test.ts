import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CapturedPacket,
  type CaptureInterface,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  pcapngHeader,
  pcapngPacket,
  readPcapng,
  writePcapng,
} from '../../../src/wire/pcapng.ts';
import { tcpPacket, udpPacket } from '../../helpers/packets.ts';

const LINKS: readonly CaptureInterface[] = [
  { name: 'node1:eth0', description: "the fabric's end of the link", linkType: LINKTYPE_RAW },
  { name: 'node3:eth0', linkType: LINKTYPE_ETHERNET },
];

const PACKETS: readonly CapturedPacket[] = [
  {
    interfaceIndex: 0,
    timestampNs: 1_764_000_000_123_456_789n,
    bytes: tcpPacket([1, 2, 3]),
    direction: 'outbound',
    comment: 'w1 → w3, first of two',
  },
  {
    interfaceIndex: 1,
    timestampNs: 1n,
    bytes: new Uint8Array(0),
    originalLength: 1500,
    direction: 'inbound',
  },
];

test('what is written is what is read', () => {
  const read = readPcapng(writePcapng(LINKS, PACKETS, 'tortie'));
  expect(read).toEqual({ ok: true, file: { interfaces: LINKS, packets: PACKETS, truncated: false } });
});

test('any packets survive a round trip', () => {
  const packet = fc.record({
    interfaceIndex: fc.constant(0),
    timestampNs: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    bytes: fc.uint8Array({ maxLength: 60 }),
    comment: fc.string({ unit: 'grapheme', maxLength: 20 }),
  });
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 5 }), (packets) => {
      const read = readPcapng(writePcapng(LINKS, packets, 'tortie'));
      expect(read).toEqual({ ok: true, file: { interfaces: LINKS, packets, truncated: false } });
    }),
  );
});

test('a file whose last block is cut is read up to there', () => {
  const whole = writePcapng(LINKS, PACKETS, 'tortie');
  const read = readPcapng(whole.subarray(0, whole.length - 1));
  expect(read.ok && [read.file.packets.length, read.file.truncated]).toEqual([1, true]);
});

test('big-endian files and microseconds, as others write them', () => {
  const view = new DataView(new ArrayBuffer(28 + 20 + 36));
  const words = [0x0a0d0d0a, 28, 0x1a2b3c4d, 0x00010000, 0xffffffff, 0xffffffff, 28];
  words.push(1, 20, 0x00650000, 65_535, 20);
  words.push(6, 36, 0, 0, 5_000_001, 4, 4, 0x45001234, 36);
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word);
  const read = readPcapng(new Uint8Array(view.buffer));
  expect(read.ok && read.file.packets).toEqual([
    { interfaceIndex: 0, timestampNs: 5_000_001_000n, bytes: Uint8Array.of(0x45, 0, 0x12, 0x34) },
  ]);
});

test.each([
  ['nothing', new Uint8Array(0), 'not a pcapng file'],
  ['a classic pcap', Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0), 'not a pcapng file'],
  [
    'a packet of an interface that is not there',
    new Uint8Array([
      ...pcapngHeader([], 'tortie'),
      ...pcapngPacket({ interfaceIndex: 7, timestampNs: 0n, bytes: new Uint8Array(4) }),
    ]),
    'interface does not hold',
  ],
])('%s is refused with the reason', (_name, bytes, reason) => {
  const read = readPcapng(bytes);
  expect(read.ok ? '' : read.problem).toContain(reason);
});

test('the reader is total: spoiled files are answers, not crashes', () => {
  const whole = writePcapng(LINKS, PACKETS, 'tortie');
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), (at, value) => {
      const spoiled = Uint8Array.from(whole);
      spoiled[at] = value;
      expect(typeof readPcapng(spoiled).ok).toBe('boolean');
    }),
  );
});

const tcpdump = spawnSync('tcpdump', ['--version']);

test.skipIf(tcpdump.error !== undefined)('tcpdump reads the file: the judge from outside', () => {
  const links = [{ name: 'x', linkType: LINKTYPE_RAW }];
  const packets = [{ interfaceIndex: 0, timestampNs: 1_500_000_000_000_000_042n, bytes: udpPacket([1, 2]) }];
  const input = writePcapng(links, packets, 'tortie');
  const run = spawnSync('tcpdump', ['-nn', '-tt', '-v', '--nano', '-r', '-'], { input, timeout: 10_000 });
  const out = run.stdout.toString();
  expect(out).toContain('1500000000.000000042');
  expect(out).toContain('192.168.42.65.50000 > 192.168.77.130.53');
});
