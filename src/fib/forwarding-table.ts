/**
 * The outbound direction's table: inner destination -> peer. Compiled from ForwardingConfig and changed
 * operation by operation; operations about sources concern the other direction (source-table.ts).
 *
 * The caller is one thread: a change is applied between two batches, so no packet sees half of one.
 */
import type { ForwardingConfig, ForwardingEntry, ForwardingOperation } from './forwarding-config.ts';
import { LocalAddresses } from './local-addresses.ts';
import { FIRST_GROUP, PeerGroups, VALUE_INNER_DESTINATION } from './peer-groups.ts';
import { NO_PEER, PeerTable } from './peer-table.ts';
import { NO_MATCH, PrefixTable, ROW_WORDS } from './prefix-table.ts';
import { outboundPart, type SnapshotPart } from './snapshot-part.ts';

/** Results of `nextHop` that are no slot. */
export const NO_ROUTE = -1;
/** The route has no gateway: the outer destination is the inner one. */
export const INNER_DESTINATION = -2;

export class ForwardingTable {
  /** Grows with each change: what was read before may be kept as long as it stays the same. */
  changes = 0;
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
    const only = this.#groups.only(value);
    if (only !== NO_PEER) return only;
    const members = this.#groups.members(value);
    if (members.length === 0) return NO_ROUTE;
    // By addresses only, as the kernel's default multipath policy: fragments of one packet stay together.
    const hash = Math.imul(source ^ Math.imul(destination, 0x85ebca6b), 0x9e3779b1) >>> 16;
    return members[hash % members.length]!;
  }

  apply(operation: ForwardingOperation): void {
    this.changes++;
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
    this.lay(outboundPart(config));
  }

  /** The same by the part that this direction asks. */
  lay(part: SnapshotPart): void {
    this.changes++;
    this.local.set(part.outerSource, part.localAddresses);
    this.peers.setPeers(part.peers);
    const groups = this.#groups.referenceAll(part.groups);
    const { rows } = part;
    const before = this.#entries.size;
    this.#entries.reserve(rows.length / ROW_WORDS);
    for (let at = 0; at < rows.length; at += ROW_WORDS) {
      const value = this.#groups.valueOf(rows[at + 2]!, groups);
      this.#setValue(rows[at]!, rows[at + 1]!, value);
    }
    if (before > 0)
      for (const { address, length } of this.#entries.prefixesBeside(rows))
        this.#releaseValue(this.#entries.delete(address, length));
    for (const group of groups) this.#groups.release(group);
    this.peers.deleteOthers(part.peers, this.#clock());
  }

  /** Lets go of deleted peers' slots. */
  sweep(): void {
    this.changes++;
    this.peers.sweep(this.#clock());
  }

  #setEntry({ prefix, nextHops }: ForwardingEntry): void {
    const value =
      nextHops === 'inner-destination' ? VALUE_INNER_DESTINATION : this.#groups.reference(nextHops);
    this.#setValue(prefix.address, prefix.length, value);
  }

  #setValue(address: number, length: number, value: number): void {
    this.#releaseValue(this.#entries.set(address, length, value));
  }

  #releaseValue(value: number): void {
    if (value >= FIRST_GROUP) this.#groups.release(value);
  }
}
