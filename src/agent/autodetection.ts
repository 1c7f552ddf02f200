/**
 * Which address is the node's: calico/node's methods. `first-found` takes the first address of any use in the
 * order of newest interface first, leaving out interfaces that other software makes; the prefix length is the
 * interface's, since cross-subnet depends on it.
 */
import { createSocket } from 'node:dgram';
import { UnavailableError, UsageError } from '../base/errors.ts';
import type { HostAddress, HostFacts } from '../control/ports.ts';
import { formatIpv4, type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import {
  formatPrefix,
  type InterfaceAddress,
  type Prefix,
  parsePrefix,
  prefixContains,
} from '../ip/prefix.ts';

export type DetectionMethod =
  | { readonly type: 'first-found' }
  | { readonly type: 'can-reach'; readonly destination: string }
  | { readonly type: 'interface' | 'skip-interface'; readonly patterns: readonly RegExp[] }
  | { readonly type: 'cidr'; readonly prefixes: readonly Prefix[] };

/** Interfaces that container runtimes and overlays make (calico/node v3's list); ours is left out by its name. */
const EXCLUDED =
  /^(docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns|podman|br-)/;

const CAN_REACH_PORT = 80;

export function parseDetectionMethod(text: string): DetectionMethod {
  const [name = '', list] = splitOnce(text, '=');
  const words = (list ?? '').split(',').map((word) => word.trim());
  if (name === 'first-found' && list === undefined) return { type: 'first-found' };
  if (list && words.every(Boolean)) {
    if (name === 'can-reach') return { type: 'can-reach', destination: list };
    if (name === 'interface' || name === 'skip-interface')
      return { type: name, patterns: words.map((word) => pattern(word)) };
    if (name === 'cidr') return { type: 'cidr', prefixes: words.map((word) => prefixOrUsage(word)) };
  }
  throw new UsageError(`invalid IP autodetection method "${text}"`, {
    hint: 'expected first-found, can-reach=DESTINATION, interface=REGEX[,…], skip-interface=REGEX[,…] or cidr=CIDR[,…]',
  });
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UsageError(`not a regular expression: "${text}"`, { cause: error });
  }
}

function prefixOrUsage(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (!prefix) throw new UsageError(`IP autodetection: expected an IPv4 prefix, got "${text}"`);
  return prefix;
}

export interface Detected extends InterfaceAddress {
  readonly device: string;
}

/** @throws UnavailableError naming the candidates, where none fits */
export async function detectAddress(
  method: DetectionMethod,
  facts: HostFacts,
  tunnelDevice: string,
  localAddressTowards: (destination: string) => Promise<Ipv4 | undefined> = connectedAddress,
): Promise<Detected> {
  const found =
    method.type === 'can-reach'
      ? usable(onInterface(facts, await localAddressTowards(method.destination)), tunnelDevice)
      : candidates(facts, tunnelDevice, method)[0];
  if (found) return found;
  const all = facts.addresses.map((a) => `${a.device} ${formatPrefix(a)}`).join(', ') || 'none';
  throw new UnavailableError(
    'ERR_NO_NODE_ADDRESS',
    `Couldn't autodetect a management IPv4 address by ${describe(method)}; the host has: ${all}`,
    { hint: 'give it with --ip ADDRESS/LENGTH, or choose with --ip-autodetection-method interface=NAME' },
  );
}

/** What leads to a destination may be loopback (`can-reach=localhost`) or a tunnel of an earlier run. */
function usable(found: HostAddress | undefined, tunnelDevice: string): HostAddress | undefined {
  return found && found.device !== tunnelDevice && isGlobalUnicast(found.address) ? found : undefined;
}

/** Addresses that the method allows, best first. */
export function candidates(facts: HostFacts, tunnelDevice: string, method: DetectionMethod): HostAddress[] {
  const up = facts.links.filter((link) => link.up && isAllowed(link.name, tunnelDevice, method));
  // calico/node goes through the interfaces from the newest to the oldest, so an overlay's own comes last only by name.
  const order = up.sort((a, b) => b.index - a.index);
  const ordered = order.flatMap((link) => facts.addresses.filter((a) => a.device === link.name));
  const fitting = ordered.filter((a) => isGlobalUnicast(a.address) && isWithin(a.address, method));
  // A virtual address of keepalived is a /32 beside the interface's own: that says nothing about the subnet.
  return [...fitting.filter((a) => a.length < 32), ...fitting.filter((a) => a.length === 32)];
}

function isAllowed(name: string, tunnelDevice: string, method: DetectionMethod): boolean {
  if (name === tunnelDevice) return false;
  if (method.type === 'interface') return method.patterns.some((p) => p.test(name));
  if (EXCLUDED.test(name)) return false;
  return method.type !== 'skip-interface' || !method.patterns.some((p) => p.test(name));
}

function isWithin(address: Ipv4, method: DetectionMethod): boolean {
  return method.type !== 'cidr' || method.prefixes.some((prefix) => prefixContains(prefix, address));
}

/** Not loopback, link-local, multicast, broadcast or "this network"; private addresses count. */
function isGlobalUnicast(address: Ipv4): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224 && address >>> 16 !== 0xa9fe;
}

function onInterface(facts: HostFacts, address: Ipv4 | undefined): HostAddress | undefined {
  return facts.addresses.find((a) => a.address === address);
}

/** What the kernel would send from: connecting a UDP socket sends nothing. */
function connectedAddress(destination: string): Promise<Ipv4 | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const done = (address: Ipv4 | undefined) => {
      socket.close();
      resolve(address);
    };
    socket.once('error', () => done(undefined));
    socket.connect(CAN_REACH_PORT, destination, () => done(parseIpv4(socket.address().address)));
  });
}

function describe(method: DetectionMethod): string {
  switch (method.type) {
    case 'first-found':
      return 'first-found';
    case 'can-reach':
      return `can-reach=${method.destination}`;
    case 'cidr':
      return `cidr=${method.prefixes.map(formatPrefix).join(',')}`;
    default:
      return `${method.type}=${method.patterns.map((p) => p.source).join(',')}`;
  }
}

/** The interface's prefix length for an address given without one; 32 where no interface has it, as in calico/node. */
export function lengthOnInterface(facts: HostFacts, address: Ipv4): number {
  return onInterface(facts, address)?.length ?? 32;
}

/** A warning where the address is on no interface; calico/node's words. */
export function unconfirmedWarning(facts: HostFacts, address: Ipv4): string | undefined {
  return onInterface(facts, address)
    ? undefined
    : `Unable to confirm IPv4 address ${formatIpv4(address)} is assigned to this host`;
}
