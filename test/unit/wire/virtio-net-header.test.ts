import { expect, test } from 'vitest';
import {
  clearVirtioNetHeader,
  GSO_ECN,
  GSO_TCPV4,
  TCP_CHECKSUM_OFFSET,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  vnetChecksumOffset,
  vnetChecksumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
  vnetHeaderLength,
  writeVirtioNetHeader,
} from '../../../src/wire/virtio-net-header.ts';
import { bytes } from '../../helpers/bytes.ts';

test('the layout is struct virtio_net_hdr, little-endian', () => {
  const view = new Uint8Array(VIRTIO_NET_HEADER_BYTES + 2).fill(0xaa);
  writeVirtioNetHeader(view, 1, VNET_NEEDS_CHECKSUM, GSO_TCPV4 | GSO_ECN, 52, 1448, 20, TCP_CHECKSUM_OFFSET);
  expect(view).toEqual(bytes('aa 01 81 34 00 a8 05 14 00 10 00 aa'));
  expect([
    vnetFlags(view, 1),
    vnetGsoType(view, 1),
    vnetHeaderLength(view, 1),
    vnetGsoSize(view, 1),
    vnetChecksumStart(view, 1),
    vnetChecksumOffset(view, 1),
  ]).toEqual([1, 0x81, 52, 1448, 20, 16]);
  clearVirtioNetHeader(view, 1);
  expect(view).toEqual(bytes('aa 00 00 00 00 00 00 00 00 00 00 aa'));
});
