/**
 * IPv4 addresses as unsigned 32-bit integers in host order: what the FIB compares and the headers hold.
 * Parsed once at the edge; a value of type Ipv4 cannot be invalid.
 */
export type Ipv4 = number & { readonly __brand: 'Ipv4' };

const OCTET = /^(?:0|[1-9][0-9]{0,2})$/;

/** The address, or undefined where `text` is not a dotted quad (leading zeros are refused: they mean octal to some). */
export function parseIpv4(text: string): Ipv4 | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!OCTET.test(part)) return undefined;
    const octet = Number(part);
    if (octet > 255) return undefined;
    value = value * 256 + octet;
  }
  return value as Ipv4;
}

/** Like parseIpv4, for text that our own code wrote: anything else is a bug. */
export function ipv4(text: string): Ipv4 {
  const address = parseIpv4(text);
  if (address === undefined) throw new Error(`bug: not an IPv4 address: ${JSON.stringify(text)}`);
  return address;
}

export function ipv4FromNumber(value: number): Ipv4 {
  return (value >>> 0) as Ipv4;
}

export function formatIpv4(address: Ipv4 | number): string {
  return `${(address >>> 24) & 255}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}
