/** struct ifreq: an interface's name, and behind it what is asked or answered: a number, flags, an address, a pointer. */

export const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/** `flags` go behind the name, 16 bits of them. */
export function interfaceRequest(name: string, flags = 0): Uint8Array {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(new TextEncoder().encode(name));
  new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true);
  return request;
}
