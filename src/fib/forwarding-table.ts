/**
 * The outbound direction's table: inner destination -> peer. Compiled from ForwardingConfig and changed
 * operation by operation; operations about sources concern the other direction (source-table.ts).
 *
 * The caller is one thread: a change is applied between two batches, so no packet sees half of one.
 */
import type { ForwardingConfig, ForwardingEntry, ForwardingOperation } from './forwarding-config.ts';
import { LocalAddresses } from './local-addresses.ts';
import { FIRST_GROUP, PeerGroups } from './peer-groups.ts';
import { PeerTable } from './peer-table.ts';
import { NO_MATCH, PrefixTable } from './prefix-table.ts';

/** Results of `nextHop` that are no slot. */
export const NO_ROUTE = -1;
/** The route has no gateway: the outer destination is the inner one. */
export const INNER_DESTINATION = -2;

const VALUE_INNER_DESTINATION = 0;

export class ForwardingTable {
  readonly #clock: () => number;
  readonly peers = new PeerTable();
  readonly local = new LocalAddresses();
  readonly #groups = new PeerGroups(this.peers);
  readonly #entries = new PrefixTable();

  /** `clock` gives monotonic milliseconds. */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The slot of the peer that `destination` is reached by, or NO_ROUTE or INNER_DESTINATION. */
  nextHop(destination: number, source: number): number {
    const value = this.#entries.lookup(destination);
    if (value === NO_MATCH) return NO_ROUTE;
    if (value === VALUE_INNER_DESTINATION) return INNER_DESTINATION;
    const members = this.#groups.members(value);
    if (members.length === 1) return members[0]!;
    if (members.length === 0) return NO_ROUTE;
    // By addresses only, as the kernel's default multipath policy: fragments of one packet stay together.
    const hash = Math.imul(source ^ Math.imul(destination, 0x85ebca6b), 0x9e3779b1) >>> 16;
    return members[hash % members.length]!;
  }

  apply(operation: ForwardingOperation): void {
    switch (operation.op) {
      case 'set-entry':
        this.#setEntry(operation.entry);
        break;
      case 'delete-entry':
        this.#releaseValue(this.#entries.delete(operation.prefix.address, operation.prefix.length));
        break;
      case 'set-peer':
        this.peers.setPeer(operation.peer);
        break;
      case 'delete-peer':
        this.peers.deletePeer(operation.address, this.#clock());
        break;
      case 'set-local':
        this.local.set(operation.outerSource, operation.localAddresses);
        break;
    }
  }

  /** Makes the table that of `config`; what is in both keeps its place. */
  replace(config: ForwardingConfig): void {
    const nowMs = this.#clock();
    this.local.set(config.outerSource, config.localAddresses);
    const peers = new Set<number>();
    for (const peer of config.peers) {
      this.peers.setPeer(peer);
      peers.add(peer.address);
    }
    const kept = new PrefixTable();
    for (const entry of config.entries) {
      this.#setEntry(entry);
      kept.set(entry.prefix.address, entry.prefix.length, 0);
    }
    const stale: { address: number; length: number }[] = [];
    this.#entries.forEach((address, length) => {
      if (kept.get(address, length) === NO_MATCH) stale.push({ address, length });
    });
    for (const { address, length } of stale) this.#releaseValue(this.#entries.delete(address, length));
    this.peers.forEachKnown((address) => {
      if (!peers.has(address)) this.peers.deletePeer(address, nowMs);
    });
  }

  /** Lets go of deleted peers' slots. */
  sweep(): void {
    this.peers.sweep(this.#clock());
  }

  #setEntry(entry: ForwardingEntry): void {
    const value =
      entry.nextHops === 'inner-destination'
        ? VALUE_INNER_DESTINATION
        : this.#groups.reference(entry.nextHops);
    this.#releaseValue(this.#entries.set(entry.prefix.address, entry.prefix.length, value));
  }

  #releaseValue(value: number): void {
    if (value >= FIRST_GROUP) this.#groups.release(value);
  }
}
