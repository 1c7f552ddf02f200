/** IPv4 prefixes: a network address without host bits, and a length of 0 to 32. "CIDR" is only their text form. */
import { formatIpv4, type Ipv4, parseIpv4 } from './ipv4.ts';

export interface Prefix {
  readonly address: Ipv4;
  readonly length: number;
}

/** An address as an interface or a Node has it: the host bits are kept, `10.0.2.15/24`. */
export interface InterfaceAddress {
  readonly address: Ipv4;
  readonly length: number;
}

/** The netmask of a prefix length; 0 is special because JavaScript shifts by 32 as by 0. */
export function netmask(length: number): number {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
}

/** The prefix of `length` bits that holds `address`. */
export function prefixOf(address: Ipv4 | number, length: number): Prefix {
  return Object.freeze({ address: ((address & netmask(length)) >>> 0) as Ipv4, length });
}

export function hostPrefix(address: Ipv4): Prefix {
  return Object.freeze({ address, length: 32 });
}

/** `10.0.2.15/24` or a bare `10.0.2.15` (length 32); undefined where it is neither. */
export function parseInterfaceAddress(text: string): InterfaceAddress | undefined {
  return parseWithLength(text, '/');
}

function parseWithLength(text: string, separator: string): InterfaceAddress | undefined {
  const slash = text.indexOf(separator);
  const address = parseIpv4(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  if (slash < 0) return Object.freeze({ address, length: 32 });
  const lengthText = text.slice(slash + 1);
  if (!/^(?:0|[1-9][0-9]?)$/.test(lengthText)) return undefined;
  const length = Number(lengthText);
  return length > 32 ? undefined : Object.freeze({ address, length });
}

/** A strictly masked prefix; undefined where the text is none or has host bits. Keys of datastores write `-` for `/`. */
export function parsePrefix(text: string, separator: '/' | '-' = '/'): Prefix | undefined {
  const parsed = text.includes(separator) ? parseWithLength(text, separator) : undefined;
  if (parsed === undefined || (parsed.address & ~netmask(parsed.length)) !== 0) return undefined;
  return parsed;
}

/** Like parsePrefix, for text that our own code wrote: anything else is a bug. */
export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(`bug: not a prefix: ${JSON.stringify(text)}`);
  return parsed;
}

/** Also the text form of an InterfaceAddress, and the key that maps of prefixes use. */
export function formatPrefix(p: Prefix): string {
  return `${formatIpv4(p.address)}/${p.length}`;
}

export function prefixContains(p: Prefix, address: Ipv4 | number): boolean {
  return (address & netmask(p.length)) >>> 0 === p.address;
}

export function prefixCovers(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && prefixContains(outer, inner.address);
}

export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

export function prefixSize(p: Prefix): number {
  return 2 ** (32 - p.length);
}

export function comparePrefixes(a: Prefix, b: Prefix): number {
  return a.address - b.address || a.length - b.length;
}
