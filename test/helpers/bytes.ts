/** Bytes as people write them in tests: hex digits with any white space between. */
export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replace(/\s+/g, ''), 'hex'));
}

/** Lower-case hex, a space between bytes. */
export function hex(view: Uint8Array): string {
  return [...view].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
