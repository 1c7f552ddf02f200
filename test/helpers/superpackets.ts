/** Arbitrary superpackets and trains of packets for the property tests of segmentation and coalescing. */
import fc from 'fast-check';
import { GSO_TCPV4, GSO_UDP_L4 } from '../../src/wire/virtio-net-header.ts';
import { tcpPacket, udpPacket } from './packets.ts';

export const u8 = fc.integer({ min: 0, max: 0xff });
export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

/** Options in whole words, as headers have them. */
export function words(max: number): fc.Arbitrary<number[]> {
  return fc.integer({ min: 0, max }).chain((n) => fc.array(u8, { minLength: n * 4, maxLength: n * 4 }));
}

export interface Superpacket {
  readonly bytes: Uint8Array;
  readonly gsoType: number;
  readonly gsoSize: number;
}

const payload = fc.oneof(
  fc.array(u8, { maxLength: 90 }),
  fc
    .tuple(u8, fc.integer({ min: 1, max: 4000 }))
    .map(([seed, n]) => Array.from({ length: n }, (_, i) => (seed + i * 7) & 255)),
);

const ip = {
  tos: u8,
  id: u16,
  ttl: u8,
  source: u32,
  destination: u32,
  fragment: fc.constantFrom(0, 0x4000),
  sourcePort: u16,
  destinationPort: u16,
};

export const tcpSuperpacket: fc.Arbitrary<Superpacket> = fc
  .tuple(
    fc.record({
      ...ip,
      options: words(10),
      tcpOptions: words(10),
      sequence: u32,
      acknowledgement: u32,
      flags: u8,
      window: u16,
      urgent: u16,
    }),
    payload,
    fc.integer({ min: 1, max: 1500 }),
  )
  .map(([fields, data, size]) => ({
    bytes: tcpPacket(data, fields, false),
    gsoType: GSO_TCPV4,
    gsoSize: Math.max(size, Math.ceil(data.length / 64)),
  }));

export const udpSuperpacket: fc.Arbitrary<Superpacket> = fc
  .tuple(fc.record({ ...ip, options: words(10) }), payload, fc.integer({ min: 1, max: 1472 }))
  .map(([fields, data, size]) => ({
    bytes: udpPacket(data, fields, false),
    gsoType: GSO_UDP_L4,
    gsoSize: Math.max(size, Math.ceil(data.length / 64)),
  }));
