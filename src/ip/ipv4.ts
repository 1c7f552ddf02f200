/**
 * IPv4 addresses as unsigned 32-bit integers in host order: what the FIB compares and the headers hold.
 * Parsed once at the edge; a value of type Ipv4 cannot be invalid.
 */
export type Ipv4 = number & { readonly __brand: 'Ipv4' };

const DOT = 0x2e;
const ZERO = 0x30;

/**
 * The address, or undefined where `text` is not a dotted quad (leading zeros are refused: they mean octal to some).
 * Character by character: an agent's start parses some hundred thousand of them.
 */
export function parseIpv4(text: string): Ipv4 | undefined {
  if (text.length > 15) return undefined;
  let [value, octet, digits, dots] = [0, 0, 0, 0];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || ++dots > 3) return undefined;
      value = value * 256 + octet;
      octet = digits = 0;
      continue;
    }
    const digit = code - ZERO;
    if (digit < 0 || digit > 9 || (digits > 0 && octet === 0)) return undefined;
    octet = octet * 10 + digit;
    if (octet > 255) return undefined;
    digits++;
  }
  return dots === 3 && digits > 0 ? ((value * 256 + octet) as Ipv4) : undefined;
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
