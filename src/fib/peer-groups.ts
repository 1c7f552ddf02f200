/**
 * Sets of peers that prefixes point to: the next hops of a route, the owners of a source. Interned, since many
 * blocks belong to one node. Numbers below FIRST_GROUP are for the tables' own special values.
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { PeerTable } from './peer-table.ts';

export const FIRST_GROUP = 4;

export class PeerGroups {
  readonly #peers: PeerTable;
  readonly #members: Int32Array[] = [];
  readonly #references: number[] = [];
  readonly #byKey = new Map<string, number>();
  readonly #free: number[] = [];

  constructor(peers: PeerTable) {
    this.#peers = peers;
  }

  /** The group of these addresses, kept until `release`. Their order matters: it is the order of choice. */
  reference(addresses: readonly Ipv4[]): number {
    const key = addresses.join();
    const existing = this.#byKey.get(key);
    if (existing !== undefined) {
      this.#references[existing]!++;
      return existing + FIRST_GROUP;
    }
    const index = this.#free.pop() ?? this.#members.length;
    this.#members[index] = Int32Array.from(addresses, (address) => this.#peers.reference(address));
    this.#references[index] = 1;
    this.#byKey.set(key, index);
    return index + FIRST_GROUP;
  }

  release(group: number): void {
    const index = group - FIRST_GROUP;
    if (--this.#references[index]! > 0) return;
    const members = this.#members[index]!;
    this.#byKey.delete(Array.from(members, (slot) => this.#peers.address[slot]).join());
    for (const slot of members) this.#peers.release(slot);
    this.#members[index] = new Int32Array(0);
    this.#free.push(index);
  }

  keep(group: number): void {
    this.#references[group - FIRST_GROUP]!++;
  }

  /** The slots of a group. */
  members(group: number): Int32Array {
    return this.#members[group - FIRST_GROUP]!;
  }

  contains(group: number, slot: number): boolean {
    const members = this.#members[group - FIRST_GROUP]!;
    for (let i = 0; i < members.length; i++) if (members[i] === slot) return true;
    return false;
  }
}
