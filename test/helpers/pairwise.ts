/**
 * Pairwise covering arrays: few rows in which every pair of values of any two factors occurs. Most faults of settings
 * that act on each other need two of them (tests of all combinations are in scripts/soak).
 */

export type Factors = Readonly<Record<string, readonly (string | number)[]>>;
export type Row<F extends Factors> = { readonly [Name in keyof F]: F[Name][number] };

/** Every combination. */
export function product<F extends Factors>(factors: F): Row<F>[] {
  return Object.entries(factors).reduce<Record<string, string | number>[]>(
    (rows, [name, values]) => rows.flatMap((row) => values.map((value) => ({ ...row, [name]: value }))),
    [{}],
  ) as Row<F>[];
}

/**
 * Greedy: each row is grown from the first pair that is missing, value by value, by what covers the most missing
 * pairs. The same factors give the same rows.
 */
export function pairwise<F extends Factors>(factors: F): Row<F>[] {
  const names = Object.keys(factors);
  const missing = new Map<string, Record<string, string | number>>();
  for (const [i, one] of names.entries())
    for (const other of names.slice(i + 1))
      for (const pair of product({ [one]: factors[one]!, [other]: factors[other]! }))
        missing.set(JSON.stringify(pair), pair);

  /** How many missing pairs `name` = `value` makes with the values that `row` has already. */
  const gain = (row: Record<string, string | number>, name: string, value: string | number): number =>
    pairsWith(names, row, name, value).filter((pair) => missing.has(pair)).length;

  const rows: Record<string, string | number>[] = [];
  for (const [, seed] of missing) {
    const row: Record<string, string | number> = { ...seed };
    for (const name of names) {
      if (name in row) continue;
      // Where several gain as much, rows take turns, so that no value is preferred.
      const values = factors[name]!.map((_, i, all) => all[(i + rows.length) % all.length]!);
      const gains = values.map((value) => gain(row, name, value));
      row[name] = values[gains.indexOf(Math.max(...gains))]!;
    }
    for (const name of names)
      for (const pair of pairsWith(names, row, name, row[name]!)) missing.delete(pair);
    rows.push(row);
  }
  return rows as Row<F>[];
}

/** The pairs of `name` = `value` with every other value of the row, written as the keys of what is missing. */
function pairsWith(
  names: readonly string[],
  row: Readonly<Record<string, string | number>>,
  name: string,
  value: string | number,
): string[] {
  return names
    .filter((other) => other !== name && other in row)
    .map((other) =>
      names.indexOf(other) < names.indexOf(name)
        ? JSON.stringify({ [other]: row[other], [name]: value })
        : JSON.stringify({ [name]: value, [other]: row[other] }),
    );
}
