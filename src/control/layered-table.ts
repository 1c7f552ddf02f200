/**
 * A table to which several origins may contribute a value under one key; the origin that sorts first wins.
 * Whoever arrives first makes no difference, so building it change by change gives what building it at once gives.
 */

interface Layer<V> {
  readonly origin: string;
  readonly value: V;
}

export interface TableChange<V> {
  readonly key: string;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

export class LayeredTable<V> {
  /** Per key the layers sorted by origin; nearly always there is one. */
  readonly #layers = new Map<string, readonly Layer<V>[]>();
  /** Keys changed since the last drain -> the winner of then. */
  readonly #touched = new Map<string, V | undefined>();
  readonly #equal: (a: V, b: V) => boolean;

  constructor(equal: (a: V, b: V) => boolean) {
    this.#equal = equal;
  }

  get size(): number {
    return this.#layers.size;
  }

  get(key: string): V | undefined {
    return this.#layers.get(key)?.[0]?.value;
  }

  put(key: string, origin: string, value: V): void {
    this.#touch(key);
    const others = (this.#layers.get(key) ?? []).filter((layer) => layer.origin !== origin);
    const layers = [...others, { origin, value }];
    if (layers.length > 1) layers.sort((a, b) => (a.origin < b.origin ? -1 : 1));
    this.#layers.set(key, layers);
  }

  remove(key: string, origin: string): void {
    this.#touch(key);
    const rest = (this.#layers.get(key) ?? []).filter((layer) => layer.origin !== origin);
    if (rest.length) this.#layers.set(key, rest);
    else this.#layers.delete(key);
  }

  /** What differs from the time of the last call; a value put back in between is no change. */
  drainChanges(): TableChange<V>[] {
    const changes: TableChange<V>[] = [];
    for (const [key, before] of this.#touched) {
      const after = this.get(key);
      const same =
        before === undefined || after === undefined ? before === after : this.#equal(before, after);
      if (!same) changes.push({ key, before, after });
    }
    this.#touched.clear();
    return changes;
  }

  *entries(): IterableIterator<[string, V]> {
    for (const [key, layers] of this.#layers) yield [key, layers[0]!.value];
  }

  #touch(key: string): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.get(key));
  }
}
