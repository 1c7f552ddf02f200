/** What a datastore holds, read back: untrusted, tolerant of fields that we do not know, defaults filled in. */
import { decodeResource } from './decode.ts';
import { type Problem, problemText, refusalText } from './problem.ts';
import type { Kind, ResourceOf } from './resources.ts';

export type Stored<T> =
  | { readonly ok: true; readonly resource: T }
  /** One line that says all that is wrong. */
  | { readonly ok: false; readonly problem: string };

/** Never throws: a bad value is reported by its key and skipped by whoever reads it. */
export function decodeStored<K extends Kind>(kind: K, text: string): Stored<ResourceOf<K>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = (error as Error).message.replaceAll('\n', '\\n');
    return { ok: false, problem: `expected JSON: ${reason}` };
  }
  const decoded = decodeResource(kind, value, 'tolerant');
  return decoded.ok
    ? decoded
    : { ok: false, problem: refusalText(decoded.problems).trimEnd().replaceAll('\n', ' ') };
}

/**
 * What a change of a stored value brings in that no manifest may have. Fields that we do not know and that were there
 * before are not its doing.
 */
export function addedProblems(kind: Kind, before: string, after: string): Problem[] {
  const known = new Set(strictProblems(kind, before).map(problemText));
  return strictProblems(kind, after).filter((problem) => !known.has(problemText(problem)));
}

function strictProblems(kind: Kind, text: string): readonly Problem[] {
  try {
    const decoded = decodeResource(kind, JSON.parse(text), 'strict');
    return decoded.ok ? [] : decoded.problems;
  } catch {
    return [];
  }
}
