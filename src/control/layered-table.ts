/**
 * A table to which several origins may contribute a value under one key; the origin that sorts first wins.
 * Whoever arrives first makes no difference, so building it change by change gives what building it at once gives.
 */

export interface Origin {
  /** The lower rank wins; of one rank the name that sorts first. */
  readonly rank: number;
  readonly name: string;
}

/** The layers of a key are a list, the winner first; nearly always there is one. */
interface Layer<V> {
  readonly origin: Origin;
  readonly value: V;
  readonly below: Layer<V> | undefined;
}

export interface TableChange<V> {
  readonly key: string;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

export class LayeredTable<V> {
  readonly #layers = new Map<string, Layer<V>>();
  /** Keys changed since the last drain -> the winner of then; not kept before `trackChanges`. */
  #touched: Map<string, V | undefined> | undefined;
  readonly #equal: (a: V, b: V) => boolean;

  constructor(equal: (a: V, b: V) => boolean) {
    this.#equal = equal;
  }

  get size(): number {
    return this.#layers.size;
  }

  get(key: string): V | undefined {
    return this.#layers.get(key)?.value;
  }

  put(key: string, origin: Origin, value: V): void {
    const layers = this.#layers.get(key);
    this.#touch(key, layers);
    this.#layers.set(key, withLayer(layers, origin, value));
  }

  remove(key: string, origin: Origin): void {
    const layers = this.#layers.get(key);
    this.#touch(key, layers);
    const rest = withoutLayer(layers, origin);
    if (rest) this.#layers.set(key, rest);
    else this.#layers.delete(key);
  }

  /** From here on changes are remembered: a table that is filled for the first time has none to tell. */
  trackChanges(): void {
    this.#touched = new Map();
  }

  /** What differs from the time of the last call; a value put back in between is no change. */
  drainChanges(): TableChange<V>[] {
    const changes: TableChange<V>[] = [];
    for (const [key, before] of this.#touched ?? []) {
      const after = this.get(key);
      const same =
        before === undefined || after === undefined ? before === after : this.#equal(before, after);
      if (!same) changes.push({ key, before, after });
    }
    this.#touched?.clear();
    return changes;
  }

  /** The winners. Written with `forEach`: by iterators, a pair a row, they took twice as long. */
  values(): V[] {
    const values: V[] = [];
    this.#layers.forEach(({ value }) => {
      values.push(value);
    });
    return values;
  }

  /** The winners by key. */
  winners(): Map<string, V> {
    const winners = new Map<string, V>();
    this.#layers.forEach(({ value }, key) => {
      winners.set(key, value);
    });
    return winners;
  }

  #touch(key: string, layers: Layer<V> | undefined): void {
    if (this.#touched && !this.#touched.has(key)) this.#touched.set(key, layers?.value);
  }
}

function isSame(a: Origin, b: Origin): boolean {
  return a.rank === b.rank && a.name === b.name;
}

function withLayer<V>(layers: Layer<V> | undefined, origin: Origin, value: V): Layer<V> {
  if (!layers) return { origin, value, below: undefined };
  if (isSame(layers.origin, origin)) return { origin, value, below: layers.below };
  const wins =
    origin.rank !== layers.origin.rank ? origin.rank < layers.origin.rank : origin.name < layers.origin.name;
  return wins
    ? { origin, value, below: layers }
    : { origin: layers.origin, value: layers.value, below: withLayer(layers.below, origin, value) };
}

function withoutLayer<V>(layers: Layer<V> | undefined, origin: Origin): Layer<V> | undefined {
  if (!layers) return undefined;
  if (isSame(layers.origin, origin)) return layers.below;
  return { ...layers, below: withoutLayer(layers.below, origin) };
}
