/** CIDRs and addresses of both families as manifests hold them. IPv6 is stored and printed, never routed, by us. */
import { createRequire } from 'node:module';
import type { Address6 as Address6Type } from 'ip-address';
import { formatIpv4, parseIpv4 } from '../ip/ipv4.ts';
import { parseInterfaceAddress } from '../ip/prefix.ts';

export interface Cidr {
  readonly family: 4 | 6;
  /** Host bits as given. */
  readonly address: bigint;
  readonly length: number;
}

/** Loaded when the first IPv6 address comes by: most commands never see one, and should not wait for the library. */
function ipv6Library(): typeof Address6Type {
  return (createRequire(import.meta.url)('ip-address') as { Address6: typeof Address6Type }).Address6;
}

const BITS = { 4: 32, 6: 128 } as const;

function mask(cidr: Cidr): bigint {
  const hostBits = BigInt(BITS[cidr.family] - cidr.length);
  return (cidr.address >> hostBits) << hostBits;
}

/** `10.0.0.0/16` or `fd00::/64`, host bits allowed; undefined where it is neither. */
export function parseCidr(text: string): Cidr | undefined {
  if (!text.includes('/')) return undefined;
  return parseAddressOrCidr(text);
}

/** The same, where a bare address means its full length. */
export function parseAddressOrCidr(text: string): Cidr | undefined {
  if (!text.includes(':')) {
    const v4 = parseInterfaceAddress(text);
    return v4 && { family: 4, address: BigInt(v4.address), length: v4.length };
  }
  if (!/^[0-9a-fA-F:.]+(\/(0|[1-9][0-9]{0,2}))?$/.test(text)) return undefined;
  const Address6 = ipv6Library();
  if (!Address6.isValid(text)) return undefined;
  const v6 = new Address6(text);
  return { family: 6, address: v6.bigInt(), length: v6.subnetMask };
}

export function isIpv4(text: string): boolean {
  return parseIpv4(text) !== undefined;
}

export function hasHostBits(cidr: Cidr): boolean {
  return mask(cidr) !== cidr.address;
}

/** The text of the network that holds the address: `10.0.0.1/16` gives `10.0.0.0/16`. */
export function networkText(cidr: Cidr): string {
  const network = mask(cidr);
  const address =
    cidr.family === 4 ? formatIpv4(Number(network)) : ipv6Library().fromBigInt(network).correctForm();
  return `${address}/${cidr.length}`;
}

export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  if (a.family !== b.family) return false;
  const shorter = a.length < b.length ? a : b;
  const other = shorter === a ? b : a;
  return mask({ ...other, length: shorter.length }) === mask(shorter);
}
