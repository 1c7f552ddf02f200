/** What is in a captured Ethernet frame. */
import { ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, etherType } from '../../src/wire/ethernet.ts';

/**
 * The IPv4 packet of a frame. Always by this, and not by the byte of the protocol alone: that is the second one of the
 * sender's address in an ARP message, and addresses are drawn.
 */
export function ipv4In(frame: Uint8Array): Uint8Array | undefined {
  return etherType(frame, 0) === ETHERTYPE_IPV4 ? frame.subarray(ETHERNET_HEADER_BYTES) : undefined;
}
