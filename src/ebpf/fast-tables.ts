/**
 * ForwardingConfig and its changes as entries of the maps. Remembers what it laid, so that a snapshot costs only its
 * differences and a change only its own entries.
 *
 * What the programs cannot decide is laid as VALUE_SLOW, not left out: a longer prefix that were missing would let a
 * shorter one answer for it.
 */
import type {
  ForwardingConfig,
  ForwardingEntry,
  ForwardingOperation,
  Peer,
  SourceEntry,
} from '../fib/forwarding-config.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';
import {
  addressBytes,
  type MapName,
  numberBytes,
  peerValue,
  prefixKey,
  VALUE_ANY_PEER,
  VALUE_SLOW,
} from './layout.ts';

/** The maps, as far as they are written here. */
export interface MapWriter {
  set(map: MapName, key: Uint8Array, value: Uint8Array): void;
  delete(map: MapName, key: Uint8Array): void;
  /** A peer's counters, from zero where there are none. */
  startCounters(key: Uint8Array): void;
  /** What lies in a map, whoever laid it. */
  keys(map: MapName): readonly Uint8Array[];
}

/**
 * How the kernel leads to a peer: the device's number, 0 for none, the route's own MTU, 0 for none, the next hop, null where
 * only the kernel knows it, and the source it would choose.
 */
export interface Way {
  readonly device: number;
  readonly mtu: number;
  readonly hop: Ipv4 | null;
  readonly source: Ipv4 | null;
}

const NO_WAY: Way = { device: 0, mtu: 0, hop: null, source: null };

/** An address as the maps' values hold it, as a number, or one of layout's VALUE_. */
type Owner = { readonly peer: Ipv4 } | typeof VALUE_ANY_PEER | typeof VALUE_SLOW;

/** Address and length in one number, as a key of JavaScript's maps. */
const keyOf = (prefix: Prefix): number => prefix.address * 64 + prefix.length;

export class FastTables {
  readonly #maps: MapWriter;
  readonly #wayTo: (peer: Ipv4, source: Ipv4 | null) => Way;
  /** Of each peer that is reached by protocol 4. */
  readonly #ways = new Map<Ipv4, Way>();
  readonly #entries = new Map<number, ForwardingEntry>();
  readonly #sources = new Map<number, SourceEntry>();
  readonly #peers = new Map<Ipv4, Peer>();
  readonly #pathMtus = new Map<Ipv4, number>();
  /** What lies in the maps: the value as text, by map and key. */
  readonly #laid = {
    routes: new Map<number, string>(),
    sources: new Map<number, string>(),
    peers: new Map<number, string>(),
  };
  /** Outer destinations that are ours: as configured, or else all of the host's. */
  #locals: readonly Ipv4[] = [];
  #hostAddresses: readonly Ipv4[] = [];
  #isAnyLocal = true;
  #outerSource: Ipv4 | null = null;
  #byRoutes = false;

  constructor(maps: MapWriter, wayTo: (peer: Ipv4, source: Ipv4 | null) => Way) {
    this.#maps = maps;
    this.#wayTo = wayTo;
  }

  /** The sources of outer packets: the one configured, or those that the kernel chooses for our peers. */
  sources(): Set<Ipv4> {
    return new Set([...this.#ways.values()].flatMap(({ source }) => source ?? []));
  }

  /** The devices by which peers are reached. */
  devices(): Set<number> {
    return new Set([...this.#ways.values()].map(({ device }) => device));
  }

  /** Whether every address of the host is an outer destination of ours, as nothing else is configured. */
  get isAnyLocal(): boolean {
    return this.#isAnyLocal;
  }

  get locals(): readonly Ipv4[] {
    return this.#locals;
  }

  /** How many entries lie in a map. */
  laid(map: 'routes' | 'sources' | 'peers'): number {
    return this.#laid[map].size;
  }

  /** Makes the maps those of `config`. */
  replace(config: ForwardingConfig): void {
    if (this.#byRoutes !== (config.byRoutes === true)) {
      this.#byRoutes = config.byRoutes === true;
      for (const source of this.#sources.values()) this.#laySource(source);
    }
    this.apply({ op: 'set-local', outerSource: config.outerSource, localAddresses: config.localAddresses });
    const peers = new Set(config.peers.map((peer) => peer.address));
    for (const address of [...this.#peers.keys()]) if (!peers.has(address)) this.#deletePeer(address);
    for (const peer of config.peers) this.apply({ op: 'set-peer', peer });
    const sources = new Set(config.sources.map((source) => keyOf(source.prefix)));
    for (const [key, { prefix }] of [...this.#sources])
      if (!sources.has(key)) this.apply({ op: 'delete-source', prefix });
    for (const source of config.sources) this.apply({ op: 'set-source', source });
    const entries = new Set(config.entries.map((entry) => keyOf(entry.prefix)));
    for (const [key, { prefix }] of [...this.#entries])
      if (!entries.has(key)) this.apply({ op: 'delete-entry', prefix });
    for (const entry of config.entries) this.apply({ op: 'set-entry', entry });
  }

  apply(operation: ForwardingOperation): void {
    switch (operation.op) {
      case 'set-entry':
        this.#entries.set(keyOf(operation.entry.prefix), operation.entry);
        this.#layEntry(operation.entry);
        break;
      case 'delete-entry':
        this.#entries.delete(keyOf(operation.prefix));
        this.#remove('routes', operation.prefix);
        break;
      case 'set-peer':
        this.#peers.set(operation.peer.address, operation.peer);
        this.#layPeer(operation.peer);
        break;
      case 'delete-peer':
        this.#deletePeer(operation.address);
        break;
      case 'set-source':
        this.#sources.set(keyOf(operation.source.prefix), operation.source);
        this.#laySource(operation.source);
        break;
      case 'delete-source':
        this.#sources.delete(keyOf(operation.prefix));
        this.#remove('sources', operation.prefix);
        break;
      case 'set-local':
        this.#setLocal(operation.outerSource, operation.localAddresses);
        break;
      case 'set-external-sources':
        // Their packets take the slow path: an external host is no peer.
        break;
    }
  }

  /** The path MTU that ICMP told; null where what is configured holds again. */
  setPathMtu(address: Ipv4, mtu: number | null): void {
    if ((this.#pathMtus.get(address) ?? null) === mtu) return;
    if (mtu === null) this.#pathMtus.delete(address);
    else this.#pathMtus.set(address, mtu);
    const peer = this.#peers.get(address);
    if (peer) this.#layPeer(peer);
  }

  /** The host's own addresses, where nothing else is configured to be the outer destinations that are ours. */
  setHostAddresses(addresses: readonly Ipv4[]): void {
    this.#hostAddresses = addresses;
    if (this.#isAnyLocal) this.#setLocal(this.#outerSource, null);
  }

  /** Asks anew how each peer is reached: the host's routes or links have changed. */
  followRoutes(): void {
    for (const peer of this.#peers.values()) this.#layPeer(peer);
  }

  /** Writes everything anew, whatever lies in the maps: somebody else wrote there, or a write of ours failed. */
  layAgain(): void {
    for (const laid of Object.values(this.#laid)) laid.clear();
    for (const address of this.#locals) this.#maps.set('locals', addressBytes(address), numberBytes(1));
    for (const peer of this.#peers.values()) this.#layPeer(peer);
    for (const source of this.#sources.values()) this.#laySource(source);
    for (const entry of this.#entries.values()) this.#layEntry(entry);
    this.sweep();
  }

  /** Deletes what is not ours to have laid: by somebody else, or by the process before us. */
  sweep(): void {
    const addresses = [...this.#peers.keys()].map(addressBytes);
    const prefixes = (of: Iterable<{ readonly prefix: Prefix }>) =>
      [...of].map(({ prefix }) => prefixKey(prefix.address, prefix.length));
    this.#keepOnly('routes', prefixes(this.#entries.values()));
    this.#keepOnly('sources', prefixes(this.#sources.values()));
    this.#keepOnly('peers', addresses);
    this.#keepOnly('peer_counters', addresses);
    this.#keepOnly('locals', this.#locals.map(addressBytes));
  }

  #keepOnly(map: MapName, keys: readonly Uint8Array[]): void {
    const wanted = new Set(keys.map(String));
    for (const key of this.#maps.keys(map)) if (!wanted.has(String(key))) this.#maps.delete(map, key);
  }

  #setLocal(outerSource: Ipv4 | null, configured: readonly Ipv4[] | null): void {
    this.#isAnyLocal = configured === null;
    const addresses = configured ?? this.#hostAddresses;
    const isSame = outerSource === this.#outerSource && String(addresses) === String(this.#locals);
    this.#outerSource = outerSource;
    if (isSame) return;
    for (const address of this.#locals)
      if (!addresses.includes(address)) this.#maps.delete('locals', addressBytes(address));
    for (const address of addresses)
      if (!this.#locals.includes(address)) this.#maps.set('locals', addressBytes(address), numberBytes(1));
    this.#locals = addresses;
    for (const peer of this.#peers.values()) this.#layPeer(peer);
    for (const entry of this.#entries.values()) this.#layEntry(entry);
  }

  #layEntry({ prefix, nextHops }: ForwardingEntry): void {
    const hop = nextHops === 'inner-destination' || nextHops.length !== 1 ? undefined : nextHops[0];
    // Outer destinations that are ours are a loop, which the slow path counts.
    const isOurs = hop !== undefined && (hop === this.#outerSource || this.#locals.includes(hop));
    this.#lay('routes', prefix, hop === undefined || isOurs ? VALUE_SLOW : { peer: hop });
  }

  #laySource({ prefix, owners }: SourceEntry): void {
    if (owners === 'local') this.#lay('sources', prefix, VALUE_SLOW);
    else if (owners === 'any-peer')
      this.#lay('sources', prefix, this.#byRoutes ? VALUE_SLOW : VALUE_ANY_PEER);
    else this.#lay('sources', prefix, owners.length === 1 ? { peer: owners[0]! } : VALUE_SLOW);
  }

  #lay(map: 'routes' | 'sources', prefix: Prefix, owner: Owner): void {
    const key = keyOf(prefix);
    const text = typeof owner === 'number' ? `${owner}` : `peer ${owner.peer}`;
    if (this.#laid[map].get(key) === text) return;
    const value = typeof owner === 'number' ? numberBytes(owner) : addressBytes(owner.peer);
    this.#maps.set(map, prefixKey(prefix.address, prefix.length), value);
    this.#laid[map].set(key, text);
  }

  #remove(map: 'routes' | 'sources', prefix: Prefix): void {
    if (this.#laid[map].delete(keyOf(prefix)))
      this.#maps.delete(map, prefixKey(prefix.address, prefix.length));
  }

  #layPeer(peer: Peer): void {
    const key = addressBytes(peer.address);
    const asked = peer.transport === 'ipip' ? this.#wayTo(peer.address, this.#outerSource) : NO_WAY;
    const way = asked.source === null ? NO_WAY : asked;
    this.#ways.set(peer.address, way);
    const limits = [this.#pathMtus.get(peer.address) ?? 0, way.mtu].filter((mtu) => mtu > 0);
    const mtu = peer.transport === 'ipip' ? Math.min(peer.mtu, ...limits) : 0;
    const text = `${mtu} ${way.device} ${way.source} ${way.hop}`;
    if (!this.#laid.peers.has(peer.address)) this.#maps.startCounters(key);
    if (this.#laid.peers.get(peer.address) === text) return;
    this.#maps.set('peers', key, peerValue(mtu, way.device, way.source, way.hop));
    this.#laid.peers.set(peer.address, text);
  }

  #deletePeer(address: Ipv4): void {
    this.#peers.delete(address);
    this.#pathMtus.delete(address);
    this.#ways.delete(address);
    if (!this.#laid.peers.delete(address)) return;
    this.#maps.delete('peers', addressBytes(address));
    this.#maps.delete('peer_counters', addressBytes(address));
  }
}
