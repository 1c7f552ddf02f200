/**
 * Sets of peers that prefixes point to: the next hops of a route, the owners of a source. Interned, since many
 * blocks belong to one node. Numbers below FIRST_GROUP are for the tables' own special values.
 */
import { enlarged } from '../base/enlarged.ts';
import { NO_PEER, type PeerTable } from './peer-table.ts';

export const FIRST_GROUP = 4;
/** Of an entry: the route has no gateway. */
export const VALUE_INNER_DESTINATION = 0;
/** Of a source: every known peer; nobody, since it is our own. */
export const VALUE_ANY_PEER = 0;
export const VALUE_LOCAL = 1;

export class PeerGroups {
  readonly #peers: PeerTable;
  readonly #members: Int32Array[] = [];
  /** The member of a group that has just one, else NO_PEER: nearly all have, and a packet then looks no further. */
  #only = new Int32Array(64);
  readonly #references: number[] = [];
  readonly #byKey = new Map<string | number, number>();
  readonly #free: number[] = [];

  constructor(peers: PeerTable) {
    this.#peers = peers;
  }

  /** The group of these addresses, kept until `release`. Their order matters: it is the order of choice. */
  reference(addresses: ArrayLike<number>): number {
    const key = keyOf(addresses);
    const existing = this.#byKey.get(key);
    if (existing !== undefined) {
      this.#references[existing]!++;
      return existing + FIRST_GROUP;
    }
    const index = this.#free.pop() ?? this.#members.length;
    const members = new Int32Array(addresses.length);
    for (let i = 0; i < members.length; i++) members[i] = this.#peers.reference(addresses[i]!);
    this.#members[index] = members;
    this.#setOnly(index, members.length === 1 ? members[0]! : NO_PEER);
    this.#references[index] = 1;
    this.#byKey.set(key, index);
    return index + FIRST_GROUP;
  }

  /** The groups of a snapshot's part, in its order; each kept until `release`. */
  referenceAll(words: Uint32Array): number[] {
    const groups: number[] = [];
    for (let at = 0; at < words.length; ) {
      const end = at + 1 + words[at]!;
      groups.push(this.reference(words.subarray(at + 1, end)));
      at = end;
    }
    return groups;
  }

  release(group: number): void {
    const index = group - FIRST_GROUP;
    if (--this.#references[index]! > 0) return;
    const members = this.#members[index]!;
    this.#byKey.delete(keyOf(Array.from(members, (slot) => this.#peers.address(slot) >>> 0)));
    for (const slot of members) this.#peers.release(slot);
    this.#members[index] = new Int32Array(0);
    this.#setOnly(index, NO_PEER);
    this.#free.push(index);
  }

  /** What a row of a snapshot's part stands for, its group kept: `groups` are those of `referenceAll`. */
  valueOf(word: number, groups: readonly number[]): number {
    if (word < FIRST_GROUP) return word;
    const group = groups[word - FIRST_GROUP]!;
    this.keep(group);
    return group;
  }

  keep(group: number): void {
    this.#references[group - FIRST_GROUP]!++;
  }

  /** The slots of a group. */
  members(group: number): Int32Array {
    return this.#members[group - FIRST_GROUP]!;
  }

  /** The slot of a group's only member; NO_PEER where it has none, or several. */
  only(group: number): number {
    return this.#only[group - FIRST_GROUP]!;
  }

  contains(group: number, slot: number): boolean {
    const only = this.only(group);
    if (only !== NO_PEER) return only === slot;
    const members = this.#members[group - FIRST_GROUP]!;
    for (let i = 0; i < members.length; i++) if (members[i] === slot) return true;
    return false;
  }

  #setOnly(index: number, slot: number): void {
    if (index >= this.#only.length) this.#only = enlarged(this.#only, new Int32Array(index * 2));
    this.#only[index] = slot;
  }
}

/** Nearly every group is one peer. */
function keyOf(addresses: ArrayLike<number>): string | number {
  return addresses.length === 1 ? addresses[0]! : Array.from(addresses).join();
}
