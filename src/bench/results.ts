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

  /** Of each round in which both were measured: ours to the best of the others'. */
  ratios(ours: string, against: (one: Measurement) => boolean, figure: Figure): readonly number[] {
    return this.#of(ours, figure).flatMap(({ round, value }) => {
      const others = this.measurements.filter(
        (one) => one.round === round && one.figure === figure && one.value !== null && against(one),
      );
      if (value === null || others.length === 0) return [];
      const values = others.map((one) => one.value!);
      return [value / (isLatency(figure) ? Math.min(...values) : Math.max(...values))];
    });
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
