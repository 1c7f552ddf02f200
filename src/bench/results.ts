/** Measurements as they are kept (one JSON object a line, so that several runs make one table), and what they say. */
import { appendFileSync, readFileSync } from 'node:fs';
import type { Kind } from './contender.ts';
import { type Figure, isLatency } from './measure.ts';

/** One figure of one contender in one round; `value` null where it came to nothing. */
export interface Measurement {
  readonly round: string;
  readonly contender: string;
  readonly kind: Kind;
  readonly settings: string;
  readonly figure: Figure;
  readonly value: number | null;
  readonly retransmits?: number;
  readonly failure?: string;
}

/** On what, and how busy it was with other things. */
export interface Circumstances {
  readonly round: string;
  readonly at: string;
  readonly kernel: string;
  readonly processor: string;
  readonly cores: number;
  readonly node: string;
  /** Share of all processors that was in use during a second in which nothing was measured. */
  readonly otherLoad: number;
  readonly tcpSeconds: number;
}

export type Line = Measurement | Circumstances;

export function appendLine(file: string, line: Line): void {
  appendFileSync(file, `${JSON.stringify(line)}\n`);
}

export class Results {
  readonly circumstances: readonly Circumstances[];
  readonly measurements: readonly Measurement[];

  constructor(lines: readonly Line[]) {
    this.measurements = lines.filter((line): line is Measurement => 'contender' in line);
    this.circumstances = lines.filter((line): line is Circumstances => !('contender' in line));
  }

  static read(files: readonly string[]): Results {
    const lines = files.flatMap((file) => readFileSync(file, 'utf8').split('\n').filter(Boolean));
    return new Results(lines.map((line) => JSON.parse(line) as Line));
  }

  /** In the order in which they were measured first. */
  contenders(): readonly Measurement[] {
    const first = new Map<string, Measurement>();
    for (const one of this.measurements) if (!first.has(one.contender)) first.set(one.contender, one);
    return [...first.values()];
  }

  values(contender: string, figure: Figure): readonly number[] {
    return this.#of(contender, figure).flatMap(({ value }) => (value === null ? [] : [value]));
  }

  failures(): readonly Measurement[] {
    return this.measurements.filter(({ failure }) => failure !== undefined);
  }

  retransmits(contender: string, figure: Figure): number | undefined {
    const counts = this.#of(contender, figure).flatMap((one) => one.retransmits ?? []);
    return counts.length === 0 ? undefined : median(counts);
  }

  /**
   * Of each round in which both were measured: ours to that of the others which is the best of the whole run, by its median. The best
   * of each round would be a contender that nobody can be: the more there are, and the more they vary, the better it is.
   */
  ratios(ours: string, against: (one: Measurement) => boolean, figure: Figure): readonly number[] {
    const best = this.#best(against, figure);
    if (best === undefined) return [];
    const theirs = new Map(this.#of(best, figure).map(({ round, value }) => [round, value]));
    return this.#of(ours, figure).flatMap(({ round, value }) => {
      const other = theirs.get(round) ?? null;
      return value === null || other === null ? [] : [value / other];
    });
  }

  /** The best of some by a figure; undefined where none came to anything. */
  #best(among: (one: Measurement) => boolean, figure: Figure): string | undefined {
    const medians = this.contenders()
      .filter(among)
      .map(({ contender }) => ({ contender, values: this.values(contender, figure) }))
      .filter(({ values }) => values.length > 0)
      .map(({ contender, values }) => ({ contender, middle: median(values) }));
    const better = isLatency(figure) ? -1 : 1;
    return medians.sort((a, b) => better * (b.middle - a.middle))[0]?.contender;
  }

  #of(contender: string, figure: Figure): readonly Measurement[] {
    return this.measurements.filter((one) => one.contender === contender && one.figure === figure);
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
