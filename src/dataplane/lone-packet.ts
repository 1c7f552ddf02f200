/**
 * A packet that goes into the TUN by itself, as it came: what the coalescer makes of one that nothing joins, without its
 * records of runs and flows. A slow twin in the tests says that the two never differ.
 */
import { pseudoHeaderSum } from '../wire/checksum.ts';
import {
  IPV4_OFF_DESTINATION,
  IPV4_OFF_PROTOCOL,
  IPV4_OFF_SOURCE,
  ipv4HeaderBytes,
  isFragmentIn,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from '../wire/ipv4.ts';
import { checkTcp, TCP_OFF_CHECKSUM, tcpHeaderBytes } from '../wire/tcp.ts';
import { UDP_HEADER_BYTES, UDP_OFF_CHECKSUM } from '../wire/udp.ts';
import {
  clearVirtioNetHeader,
  GSO_NONE,
  VIRTIO_NET_HEADER_BYTES,
  VNET_NEEDS_CHECKSUM,
  writeVirtioNetHeader,
} from '../wire/virtio-net-header.ts';

/**
 * Writes the virtio-net header right before the packet of `length` bytes at `offset`, whose IPv4 header has been checked:
 * whether its transport checksum is partial (see coalescing.ts). `words` and `view` are the same memory.
 */
export function writeLoneHeader(words: DataView, view: Uint8Array, offset: number, length: number): void {
  const protocol = words.getUint8(offset + IPV4_OFF_PROTOCOL);
  if (
    (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) &&
    writePartialHeader(words, view, offset, length, protocol)
  )
    return;
  clearVirtioNetHeader(view, offset - VIRTIO_NET_HEADER_BYTES);
}

/** False, and nothing written, where the checksum is not partial. */
function writePartialHeader(
  words: DataView,
  view: Uint8Array,
  offset: number,
  length: number,
  protocol: number,
): boolean {
  if (isFragmentIn(words, offset)) return false;
  const ipBytes = ipv4HeaderBytes(view, offset);
  const transport = offset + ipBytes;
  const transportBytes = length - ipBytes;
  const isTcp = protocol === PROTOCOL_TCP;
  if (isTcp ? !checkTcp(view, transport, transportBytes) : transportBytes < UDP_HEADER_BYTES) return false;
  const field = isTcp ? TCP_OFF_CHECKSUM : UDP_OFF_CHECKSUM;
  const source = words.getInt32(offset + IPV4_OFF_SOURCE);
  const destination = words.getInt32(offset + IPV4_OFF_DESTINATION);
  if (words.getUint16(transport + field) !== pseudoHeaderSum(source, destination, protocol, transportBytes))
    return false;
  writeVirtioNetHeader(
    view,
    offset - VIRTIO_NET_HEADER_BYTES,
    VNET_NEEDS_CHECKSUM,
    GSO_NONE,
    ipBytes + (isTcp ? tcpHeaderBytes(view, transport) : UDP_HEADER_BYTES),
    0,
    ipBytes,
    field,
  );
  return true;
}
