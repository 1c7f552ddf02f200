/** How the host's own routes lead to other nodes: what a plain route must say, and which MTU the way has. */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { UnderlayMtu } from '../ip/mtu.ts';
import { prefixContains } from '../ip/prefix.ts';
import type { ForeignRoute, HostAddress, HostFacts, HostLink } from './ports.ts';

export interface UnderlayRoute {
  /** The router, or null where the node is on our link. */
  readonly via: Ipv4 | null;
  readonly device: string;
  readonly mtu: UnderlayMtu;
}

/** What a link carries where nothing is known of it: Ethernet. */
const DEFAULT_MTU = 1500 as UnderlayMtu;

export class Underlay {
  readonly #routes: readonly ForeignRoute[];
  readonly #links: ReadonlyMap<string, HostLink>;
  readonly #addresses: readonly HostAddress[];
  /** Every block of a node asks for the way to that node. */
  readonly #ways = new Map<Ipv4, UnderlayRoute | undefined>();

  /** Routes into our own tunnel device lead to no underlay. */
  constructor(facts: HostFacts, tunnelDevice: string) {
    this.#links = new Map(facts.links.map((link) => [link.name, link]));
    this.#addresses = facts.addresses.filter((a) => a.device !== tunnelDevice);
    this.#routes = facts.routes
      .filter((route) => route.device !== null && route.device !== tunnelDevice)
      .sort((a, b) => b.prefix.length - a.prefix.length || a.metric - b.metric);
  }

  routeTo(address: Ipv4): UnderlayRoute | undefined {
    if (!this.#ways.has(address)) this.#ways.set(address, this.#findRoute(address));
    return this.#ways.get(address);
  }

  #findRoute(address: Ipv4): UnderlayRoute | undefined {
    const route = this.#routes.find((r) => prefixContains(r.prefix, address));
    return route?.device
      ? { via: route.via, device: route.device, mtu: this.mtuOf(route.device) }
      : undefined;
  }

  mtuOf(device: string): UnderlayMtu {
    return (this.#links.get(device)?.mtu ?? DEFAULT_MTU) as UnderlayMtu;
  }

  /** The device that holds the address; undefined where none does. */
  deviceOf(address: Ipv4): string | undefined {
    return this.#addresses.find((a) => a.address === address)?.device;
  }

  /** The effective reverse-path filter is strict there: replies by another device would die. */
  isStrict(device: string): boolean {
    return this.#links.get(device)?.reversePathFilter === 1;
  }

  hasLink(device: string): boolean {
    return this.#links.has(device);
  }

  get addresses(): readonly HostAddress[] {
    return this.#addresses;
  }
}
