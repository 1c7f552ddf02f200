/** Packets of our own making, for the steady directions: between OURS and THEIRS, wrapped from PEER to SELF. */
import { ipv4 } from '../ip/ipv4.ts';
import { writeU16, writeU32 } from '../wire/bytes.ts';
import {
  IPV4_DF,
  IPV4_MIN_HEADER_BYTES,
  PROTOCOL_IPIP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  writeIpv4Header,
} from '../wire/ipv4.ts';
import { TCP_MIN_HEADER_BYTES, TCP_OFF_CHECKSUM } from '../wire/tcp.ts';
import { UDP_HEADER_BYTES } from '../wire/udp.ts';
import {
  GSO_TCPV4,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  writeVirtioNetHeader,
} from '../wire/virtio-net-header.ts';
import { Segmenter } from './segmentation.ts';

export const SELF = ipv4('10.0.1.11');
export const PEER = ipv4('10.0.2.11');
export const OURS = ipv4('192.168.1.1');
export const THEIRS = ipv4('10.147.135.193');

/** TCP from `source` to `destination` with `payloadBytes` of nothing; its checksum is not filled in. */
export function tcpPacket(source: number, destination: number, payloadBytes: number): Uint8Array {
  const headerBytes = IPV4_MIN_HEADER_BYTES + TCP_MIN_HEADER_BYTES;
  const packet = new Uint8Array(headerBytes + payloadBytes);
  writeIpv4Header(packet, 0, 0, packet.length, 1, IPV4_DF, 63, PROTOCOL_TCP, source, destination);
  writeU16(packet, 20, 40_000);
  writeU16(packet, 22, 5201);
  writeU32(packet, 24, 1);
  writeU32(packet, 28, 1);
  packet[32] = (TCP_MIN_HEADER_BYTES / 4) << 4;
  packet[33] = 0x10;
  writeU16(packet, 34, 500);
  return packet;
}

/** A datagram of `payloadBytes` without checksum, which IPv4 allows. */
export function udpPacket(
  source: number,
  destination: number,
  port: number,
  payloadBytes: number,
): Uint8Array {
  const packet = new Uint8Array(IPV4_MIN_HEADER_BYTES + UDP_HEADER_BYTES + payloadBytes);
  writeIpv4Header(packet, 0, 0, packet.length, 1, IPV4_DF, 63, PROTOCOL_UDP, source, destination);
  writeU16(packet, 20, port);
  writeU16(packet, 22, 5201);
  writeU16(packet, 24, UDP_HEADER_BYTES + payloadBytes);
  return packet;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** As the TUN delivers it; with a segment size, TCP as a superpacket. */
export function fromTun(packet: Uint8Array, gsoSize = 0): Uint8Array {
  const vnet = new Uint8Array(VIRTIO_NET_HEADER_BYTES);
  if (gsoSize > 0)
    writeVirtioNetHeader(
      vnet,
      0,
      VNET_NEEDS_CHECKSUM,
      GSO_TCPV4,
      IPV4_MIN_HEADER_BYTES + TCP_MIN_HEADER_BYTES,
      gsoSize,
      IPV4_MIN_HEADER_BYTES,
      TCP_OFF_CHECKSUM,
    );
  return joined(vnet, packet);
}

/** As protocol 4 from the peer. */
export function wrapped(packet: Uint8Array): Uint8Array {
  const outer = new Uint8Array(IPV4_MIN_HEADER_BYTES);
  writeIpv4Header(outer, 0, 0, outer.length + packet.length, 0, IPV4_DF, 62, PROTOCOL_IPIP, PEER, SELF);
  return joined(outer, packet);
}

/** A TCP superpacket as the packets that it is on the wire, checksums complete. */
export function segmentsOf(superpacket: Uint8Array, segmentBytes: number): readonly Uint8Array[] {
  const target = superpacket.length;
  const bytes = joined(superpacket, new Uint8Array(2 * (IPV4_MIN_HEADER_BYTES + TCP_MIN_HEADER_BYTES)));
  const segmenter = new Segmenter(bytes);
  const count = segmenter.begin(0, superpacket.length, GSO_TCPV4, segmentBytes);
  return Array.from({ length: count }, () => {
    segmenter.writeHeaders(target);
    const { headerBytes, payloadOffset, payloadBytes } = segmenter;
    return joined(
      bytes.slice(target, target + headerBytes),
      bytes.slice(payloadOffset, payloadOffset + payloadBytes),
    );
  });
}
