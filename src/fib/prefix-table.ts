/**
 * Longest-prefix match in typed arrays, changed entry by entry.
 *
 * One open-addressing hash table keyed by (network address, length); a lookup probes once per prefix length in
 * use, longest first. An overlay uses few lengths (blocks of one size, borrowed /32s, the pool), so that is two
 * or three probes, and a change costs the same in a table of 100 and of 20,000 prefixes: no trie to rebuild, no
 * range to fill. Growing doubles the arrays and is the only step that touches every entry.
 *
 * Lookups allocate nothing. Addresses are kept as signed integers, and either form may be asked for: V8 boxes
 * a number from 2^31 on (16 bytes of garbage) wherever it crosses a call that is not inlined, so the packets'
 * way passes addresses as `address | 0`. Values are integers >= 0 whose meaning is the owner's.
 */
import { netmask } from '../ip/prefix.ts';

/** Of a row in a snapshot's part: address, length, value. */
export const ROW_WORDS = 3;

/** No prefix of the table holds the address. */
export const NO_MATCH = -1;

const EMPTY = 0xff;
const INITIAL_CAPACITY = 64;

export class PrefixTable {
  #capacity = INITIAL_CAPACITY;
  #count = 0;
  #addresses = new Int32Array(INITIAL_CAPACITY);
  #lengths = new Uint8Array(INITIAL_CAPACITY).fill(EMPTY);
  #values = new Int32Array(INITIAL_CAPACITY);
  /** How many prefixes of each length there are. */
  readonly #perLength = new Int32Array(33);
  /** The lengths in use, longest first, and how many of them. */
  readonly #lengthsInUse = new Uint8Array(33);
  readonly #masks = new Int32Array(33);
  #lengthCount = 0;

  get size(): number {
    return this.#count;
  }

  /** The value of the longest prefix that holds `address`, of those at most `maxLength` long. */
  lookup(address: number, maxLength = 32): number {
    for (let i = 0; i < this.#lengthCount; i++) {
      const length = this.#lengthsInUse[i]!;
      if (length > maxLength) continue;
      const position = this.#find(address & this.#masks[i]!, length);
      if (position >= 0) return this.#values[position]!;
    }
    return NO_MATCH;
  }

  /** The value of exactly this prefix. */
  get(address: number, length: number): number {
    const position = this.#find(address | 0, length);
    return position < 0 ? NO_MATCH : this.#values[position]!;
  }

  /** Sets the value of a prefix and returns the old one, or NO_MATCH. */
  set(address: number, length: number, value: number): number {
    const position = this.#find(address | 0, length);
    if (position >= 0) {
      const old = this.#values[position]!;
      this.#values[position] = value;
      return old;
    }
    // Three quarters full at most: probes stay short.
    if ((this.#count + 1) * 4 > this.#capacity * 3) this.#grow(this.#capacity * 2);
    this.#insert(address | 0, length, value);
    this.#count++;
    if (this.#perLength[length]!++ === 0) this.#collectLengths();
    return NO_MATCH;
  }

  /** Removes a prefix and returns its value, or NO_MATCH. */
  delete(address: number, length: number): number {
    const position = this.#find(address | 0, length);
    if (position < 0) return NO_MATCH;
    const old = this.#values[position]!;
    this.#closeGap(position);
    this.#count--;
    if (--this.#perLength[length]! === 0) this.#collectLengths();
    return old;
  }

  /** Makes room for so many prefixes in all, at once instead of doubling by doubling. */
  reserve(count: number): void {
    let capacity = this.#capacity;
    while (count * 4 > capacity * 3) capacity *= 2;
    if (capacity > this.#capacity) this.#grow(capacity);
  }

  /** The prefixes that are not among these rows. */
  prefixesBeside(rows: Uint32Array): { readonly address: number; readonly length: number }[] {
    const among = new PrefixTable();
    among.reserve(rows.length / ROW_WORDS);
    for (let at = 0; at < rows.length; at += ROW_WORDS) among.set(rows[at]!, rows[at + 1]!, 0);
    const beside: { address: number; length: number }[] = [];
    this.forEach((address, length) => {
      if (among.get(address, length) === NO_MATCH) beside.push({ address, length });
    });
    return beside;
  }

  /** Calls `visit` for each prefix, in no order; the table must not change meanwhile. */
  forEach(visit: (address: number, length: number, value: number) => void): void {
    for (let i = 0; i < this.#capacity; i++)
      if (this.#lengths[i] !== EMPTY) visit(this.#addresses[i]! >>> 0, this.#lengths[i]!, this.#values[i]!);
  }

  #hash(address: number, length: number): number {
    let h = Math.imul(address ^ (length << 26), 0x9e3779b1);
    h ^= h >>> 15;
    return Math.imul(h, 0x85ebca6b) >>> 7;
  }

  #find(address: number, length: number): number {
    const mask = this.#capacity - 1;
    let position = this.#hash(address, length) & mask;
    for (;;) {
      const found = this.#lengths[position]!;
      if (found === EMPTY) return -1;
      if (found === length && this.#addresses[position] === address) return position;
      position = (position + 1) & mask;
    }
  }

  #insert(address: number, length: number, value: number): void {
    const mask = this.#capacity - 1;
    let position = this.#hash(address, length) & mask;
    while (this.#lengths[position] !== EMPTY) position = (position + 1) & mask;
    this.#addresses[position] = address;
    this.#lengths[position] = length;
    this.#values[position] = value;
  }

  /** Linear probing without tombstones: each later entry of the run that may move back does. */
  #closeGap(start: number): void {
    const mask = this.#capacity - 1;
    let gap = start;
    let position = start;
    for (;;) {
      position = (position + 1) & mask;
      const length = this.#lengths[position]!;
      if (length === EMPTY) break;
      const home = this.#hash(this.#addresses[position]!, length) & mask;
      if (((position - home) & mask) < ((position - gap) & mask)) continue;
      this.#addresses[gap] = this.#addresses[position]!;
      this.#lengths[gap] = length;
      this.#values[gap] = this.#values[position]!;
      gap = position;
    }
    this.#lengths[gap] = EMPTY;
  }

  #grow(capacity: number): void {
    const addresses = this.#addresses;
    const lengths = this.#lengths;
    const values = this.#values;
    this.#capacity = capacity;
    this.#addresses = new Int32Array(this.#capacity);
    this.#lengths = new Uint8Array(this.#capacity).fill(EMPTY);
    this.#values = new Int32Array(this.#capacity);
    for (let i = 0; i < lengths.length; i++)
      if (lengths[i] !== EMPTY) this.#insert(addresses[i]!, lengths[i]!, values[i]!);
  }

  #collectLengths(): void {
    this.#lengthCount = 0;
    for (let length = 32; length >= 0; length--) {
      if (this.#perLength[length] === 0) continue;
      this.#lengthsInUse[this.#lengthCount] = length;
      this.#masks[this.#lengthCount] = netmask(length);
      this.#lengthCount++;
    }
  }
}
