/**
 * What is wrong with a document, as data: every problem with its path. Two sorts, because Calico's client treats
 * them differently: a document that cannot be read (unknown field, wrong type) spoils its whole stream, one whose
 * values are refused spoils only itself.
 */
export interface Problem {
  readonly sort: 'unreadable' | 'refused';
  /** `['spec', 'cidr']`. */
  readonly path: readonly (string | number)[];
  /** The last words of the message: what was expected. */
  readonly reason: string;
  /** As Calico spells the field, `IPPool.Spec.CIDR`; without it the path stands in. */
  readonly field?: string;
  /** What was got, as Calico prints it; left out where nothing was given. */
  readonly value?: string;
  /** A text was expected there. */
  readonly wantsText?: boolean;
}

export type Decoded<T> =
  | { readonly ok: true; readonly resource: T }
  | { readonly ok: false; readonly problems: readonly Problem[] };

export function pathText(path: readonly (string | number)[]): string {
  return path.map((step, i) => (typeof step === 'number' ? `[${step}]` : i ? `.${step}` : step)).join('');
}

/** `IPPool.Spec.CIDR = '10.0.0.0/33' (IPPool CIDR must be a valid subnet)`. */
export function problemText(problem: Problem): string {
  const field = problem.field ?? pathText(problem.path);
  const value = problem.value ? ` = '${problem.value}'` : '';
  return problem.reason ? `${field}${value} (${problem.reason})` : `${field}${value}`;
}

/** Calico's wording for refused values: one in one line, several as a list. */
export function refusalText(problems: readonly Problem[]): string {
  const [first, ...rest] = problems;
  if (first && !rest.length) return `error with field ${problemText(first)}`;
  return `error with the following fields:\n${problems.map((p) => `-  ${problemText(p)}\n`).join('')}`;
}
