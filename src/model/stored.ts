/** What a datastore holds, read back: untrusted, tolerant of fields that we do not know, defaults filled in. */
import { decodeResource } from './decode.ts';
import { refusalText } from './problem.ts';
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
    return { ok: false, problem: `expected JSON: ${(error as Error).message}` };
  }
  const decoded = decodeResource(kind, value, 'tolerant');
  return decoded.ok
    ? decoded
    : { ok: false, problem: refusalText(decoded.problems).trimEnd().replaceAll('\n', ' ') };
}
