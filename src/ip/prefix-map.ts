/**
 * A map by prefix. It is one map per length, so that a key is a whole number of 32 bits: as one number of 38 bits it
 * would be a floating-point one, which V8 keeps as an object of its own and hashes by a call (20,000 routes, put and
 * looked up: 0.1 s more).
 */
import type { Prefix } from './prefix.ts';
import { netmask } from './prefix.ts';

export class PrefixMap<V> {
  readonly #byLength: (Map<number, V> | undefined)[] = [];

  get(prefix: Prefix): V | undefined {
    return this.#byLength[prefix.length]?.get(prefix.address | 0);
  }

  set(prefix: Prefix, value: V): void {
    this.#byLength[prefix.length] ??= new Map();
    this.#byLength[prefix.length]!.set(prefix.address | 0, value);
  }

  delete(prefix: Prefix): void {
    this.#byLength[prefix.length]?.delete(prefix.address | 0);
  }

  clear(): void {
    this.#byLength.length = 0;
  }

  *values(): IterableIterator<V> {
    for (const map of this.#byLength) if (map) yield* map.values();
  }

  /** The value of the longest prefix that holds `address`. */
  longest(address: number): V | undefined {
    for (let length = this.#byLength.length - 1; length >= 0; length--) {
      const value = this.#byLength[length]?.get(address & netmask(length));
      if (value !== undefined) return value;
    }
    return undefined;
  }
}
