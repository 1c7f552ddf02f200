/**
 * struct virtio_net_hdr, the 10 bytes in front of each packet of a TUN opened with IFF_VNET_HDR and of a
 * packet socket with PACKET_VNET_HDR: what segmentation and checksum work is still to do.
 *
 * Little-endian, as the machines we run on are: TUN uses the host's order unless TUNSETVNETBE, and
 * x86-64 and arm64 are little-endian.
 */

export const VIRTIO_NET_HEADER_BYTES = 10;

export const VNET_OFF_FLAGS = 0;
export const VNET_OFF_GSO_TYPE = 1;
export const VNET_OFF_HEADER_LENGTH = 2;
export const VNET_OFF_GSO_SIZE = 4;
export const VNET_OFF_CHECKSUM_START = 6;
export const VNET_OFF_CHECKSUM_OFFSET = 8;

/** Flags. Read: the transport checksum is partial; write: please finish it. */
export const VNET_NEEDS_CHECKSUM = 1;
/** Read: somebody verified the checksum. Neither flag: nobody looked. */
export const VNET_DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
/** UDP segmentation (USO): each segment is a datagram of its own. */
export const GSO_UDP_L4 = 5;
/** Or'ed to the TCP types where a segment carries CWR. */
export const GSO_ECN = 0x80;

/** Where the checksum field stands in the transport header: what the kernel demands in checksum_offset. */
export const TCP_CHECKSUM_OFFSET = 16;
export const UDP_CHECKSUM_OFFSET = 6;

function readLe16(view: Uint8Array, offset: number): number {
  return view[offset]! | (view[offset + 1]! << 8);
}

function writeLe16(view: Uint8Array, offset: number, value: number): void {
  view[offset] = value;
  view[offset + 1] = value >>> 8;
}

export function vnetFlags(view: Uint8Array, offset: number): number {
  return view[offset + VNET_OFF_FLAGS]!;
}

/** Including GSO_ECN where set. */
export function vnetGsoType(view: Uint8Array, offset: number): number {
  return view[offset + VNET_OFF_GSO_TYPE]!;
}

/** A hint only: for forwarded packets it may be the whole packet. Compute header lengths from the headers. */
export function vnetHeaderLength(view: Uint8Array, offset: number): number {
  return readLe16(view, offset + VNET_OFF_HEADER_LENGTH);
}

/** Payload bytes of each segment. */
export function vnetGsoSize(view: Uint8Array, offset: number): number {
  return readLe16(view, offset + VNET_OFF_GSO_SIZE);
}

/** Start of the transport header, counted from the start of the packet (TUN) or frame (packet socket). */
export function vnetChecksumStart(view: Uint8Array, offset: number): number {
  return readLe16(view, offset + VNET_OFF_CHECKSUM_START);
}

export function vnetChecksumOffset(view: Uint8Array, offset: number): number {
  return readLe16(view, offset + VNET_OFF_CHECKSUM_OFFSET);
}

export function writeVirtioNetHeader(
  view: Uint8Array,
  offset: number,
  flags: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  checksumStart: number,
  checksumOffset: number,
): void {
  view[offset + VNET_OFF_FLAGS] = flags;
  view[offset + VNET_OFF_GSO_TYPE] = gsoType;
  writeLe16(view, offset + VNET_OFF_HEADER_LENGTH, headerLength);
  writeLe16(view, offset + VNET_OFF_GSO_SIZE, gsoSize);
  writeLe16(view, offset + VNET_OFF_CHECKSUM_START, checksumStart);
  writeLe16(view, offset + VNET_OFF_CHECKSUM_OFFSET, checksumOffset);
}

/** All zero: a packet whose checksums are complete and that needs no segmentation. */
export function clearVirtioNetHeader(view: Uint8Array, offset: number): void {
  for (let i = 0; i < VIRTIO_NET_HEADER_BYTES; i++) view[offset + i] = 0;
}
