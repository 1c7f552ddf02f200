/**
 * MTUs, in bytes of IP packet. The underlay MTU is what a link of the fabric carries; the overlay MTU is
 * what is left for the inner packet once the outer headers are in front. They are different types so that
 * the overhead is subtracted exactly once.
 */
export type UnderlayMtu = number & { readonly __brand: 'UnderlayMtu' };
export type OverlayMtu = number & { readonly __brand: 'OverlayMtu' };
export type Transport = 'ipip' | 'udp';

export const IPV4_HEADER_BYTES = 20;
export const UDP_HEADER_BYTES = 8;

/** RFC 791: every host must take 576 bytes, every link carry 68. */
export const MIN_MTU = 68;

export const OVERHEAD_BYTES: Readonly<Record<Transport, number>> = {
  /** The outer IPv4 header (RFC 2003). */
  ipip: IPV4_HEADER_BYTES,
  /** The outer IPv4 header, and UDP (Linux FOU with ipproto 4 adds nothing else). */
  udp: IPV4_HEADER_BYTES + UDP_HEADER_BYTES,
};

export function overlayMtu(underlay: UnderlayMtu, transport: Transport): OverlayMtu {
  return (underlay - OVERHEAD_BYTES[transport]) as OverlayMtu;
}
