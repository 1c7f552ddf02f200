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

/** A record of a prefix, in words; its length is EMPTY where there is none. */
const ENTRY_ADDRESS = 0;
const ENTRY_LENGTH = 1;
const ENTRY_VALUE = 2;
const ENTRY_WORDS = 3;
const EMPTY = -1;
/** A record of a length in use. */
const LENGTH_BITS = 0;
const LENGTH_MASK = 1;
const LENGTH_WORDS = 2;
const INITIAL_CAPACITY = 64;

export class PrefixTable {
  #capacity = INITIAL_CAPACITY;
  #count = 0;
  #entries = emptyEntries(INITIAL_CAPACITY);
  /** How many prefixes of each length there are. */
  readonly #perLength = new Int32Array(33);
  /** The lengths in use, longest first, and how many of them. */
  readonly #lengths = new Int32Array(33 * LENGTH_WORDS);
  #lengthCount = 0;

  get size(): number {
    return this.#count;
  }

  /** The value of the longest prefix that holds `address`, of those at most `maxLength` long. */
  lookup(address: number, maxLength = 32): number {
    for (let i = 0; i < this.#lengthCount; i++) {
      const length = this.#lengths[i * LENGTH_WORDS + LENGTH_BITS]!;
      if (length > maxLength) continue;
      const entry = this.#find(address & this.#lengths[i * LENGTH_WORDS + LENGTH_MASK]!, length);
      if (entry >= 0) return this.#entries[entry + ENTRY_VALUE]!;
    }
    return NO_MATCH;
  }

  /** The value of exactly this prefix. */
  get(address: number, length: number): number {
    const entry = this.#find(address | 0, length);
    return entry < 0 ? NO_MATCH : this.#entries[entry + ENTRY_VALUE]!;
  }

  /** Sets the value of a prefix and returns the old one, or NO_MATCH. */
  set(address: number, length: number, value: number): number {
    const entry = this.#find(address | 0, length);
    if (entry >= 0) {
      const old = this.#entries[entry + ENTRY_VALUE]!;
      this.#entries[entry + ENTRY_VALUE] = value;
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
    const entry = this.#find(address | 0, length);
    if (entry < 0) return NO_MATCH;
    const old = this.#entries[entry + ENTRY_VALUE]!;
    this.#closeGap(entry / ENTRY_WORDS);
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
    const entries = this.#entries;
    for (let entry = 0; entry < entries.length; entry += ENTRY_WORDS)
      if (entries[entry + ENTRY_LENGTH] !== EMPTY)
        visit(
          entries[entry + ENTRY_ADDRESS]! >>> 0,
          entries[entry + ENTRY_LENGTH]!,
          entries[entry + ENTRY_VALUE]!,
        );
  }

  #hash(address: number, length: number): number {
    let h = Math.imul(address ^ (length << 26), 0x9e3779b1);
    h ^= h >>> 15;
    return Math.imul(h, 0x85ebca6b) >>> 7;
  }

  /** Where the prefix's record is; -1 where there is none. */
  #find(address: number, length: number): number {
    const entries = this.#entries;
    const mask = this.#capacity - 1;
    let position = this.#hash(address, length) & mask;
    for (;;) {
      const entry = position * ENTRY_WORDS;
      const found = entries[entry + ENTRY_LENGTH]!;
      if (found === EMPTY) return -1;
      if (found === length && entries[entry + ENTRY_ADDRESS] === address) return entry;
      position = (position + 1) & mask;
    }
  }

  #insert(address: number, length: number, value: number): void {
    const entries = this.#entries;
    const mask = this.#capacity - 1;
    let position = this.#hash(address, length) & mask;
    while (entries[position * ENTRY_WORDS + ENTRY_LENGTH] !== EMPTY) position = (position + 1) & mask;
    const entry = position * ENTRY_WORDS;
    entries[entry + ENTRY_ADDRESS] = address;
    entries[entry + ENTRY_LENGTH] = length;
    entries[entry + ENTRY_VALUE] = value;
  }

  /** Linear probing without tombstones: each later entry of the run that may move back does. */
  #closeGap(start: number): void {
    const entries = this.#entries;
    const mask = this.#capacity - 1;
    let gap = start;
    let position = start;
    for (;;) {
      position = (position + 1) & mask;
      const entry = position * ENTRY_WORDS;
      const length = entries[entry + ENTRY_LENGTH]!;
      if (length === EMPTY) break;
      const home = this.#hash(entries[entry + ENTRY_ADDRESS]!, length) & mask;
      if (((position - home) & mask) < ((position - gap) & mask)) continue;
      entries.copyWithin(gap * ENTRY_WORDS, entry, entry + ENTRY_WORDS);
      gap = position;
    }
    entries[gap * ENTRY_WORDS + ENTRY_LENGTH] = EMPTY;
  }

  #grow(capacity: number): void {
    const old = this.#entries;
    this.#capacity = capacity;
    this.#entries = emptyEntries(capacity);
    for (let entry = 0; entry < old.length; entry += ENTRY_WORDS)
      if (old[entry + ENTRY_LENGTH] !== EMPTY)
        this.#insert(old[entry + ENTRY_ADDRESS]!, old[entry + ENTRY_LENGTH]!, old[entry + ENTRY_VALUE]!);
  }

  #collectLengths(): void {
    this.#lengthCount = 0;
    for (let length = 32; length >= 0; length--) {
      if (this.#perLength[length] === 0) continue;
      const at = this.#lengthCount++ * LENGTH_WORDS;
      this.#lengths[at + LENGTH_BITS] = length;
      this.#lengths[at + LENGTH_MASK] = netmask(length);
    }
  }
}

function emptyEntries(capacity: number): Int32Array {
  return new Int32Array(capacity * ENTRY_WORDS).fill(EMPTY);
}
