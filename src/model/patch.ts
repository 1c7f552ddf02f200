/**
 * Patches of stored objects: merge patch (RFC 7386) and JSON patch (RFC 6902). Calico's "strategic" merge differs
 * from RFC 7386 only for lists with merge keys, and our kinds have none: lists are replaced.
 */
import { InvalidError } from '../base/errors.ts';
import { isPlainObject, type PlainObject } from './rewrite.ts';

export type PatchType = 'strategic' | 'merge' | 'json';

function refused(message: string): InvalidError {
  return new InvalidError('ERR_PATCH', message);
}

/** @throws InvalidError where the patch is none, or does not fit */
export function patched(object: PlainObject, patch: unknown, type: PatchType): PlainObject {
  const result = type === 'json' ? applyOperations(object, patch) : mergePatch(object, patch);
  if (!isPlainObject(result)) throw refused('the patch leaves no object');
  return result;
}

/** RFC 7386 §2: null removes, objects merge, everything else replaces. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isPlainObject(patch)) return patch;
  const merged: PlainObject = isPlainObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else
      Object.defineProperty(merged, key, {
        value: mergePatch(merged[key], value),
        enumerable: true,
        writable: true,
        configurable: true,
      });
  }
  return merged;
}

function applyOperations(object: PlainObject, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw refused('expected a JSON patch: a list of {op, path, value}');
  return patch.reduce<unknown>((document, operation) => applyOperation(document, operation), object);
}

function applyOperation(document: unknown, operation: unknown): unknown {
  if (!isPlainObject(operation))
    throw refused(`expected an operation {op, path, value}, got ${JSON.stringify(operation)}`);
  const { op, path, from, value } = operation;
  switch (op) {
    case 'add':
    case 'replace':
      return changed(document, pointer(path), op, value);
    case 'remove':
      return changed(document, pointer(path), op, undefined);
    case 'copy':
      return changed(document, pointer(path), 'add', valueAt(document, pointer(from)));
    case 'move': {
      const moved = valueAt(document, pointer(from));
      return changed(changed(document, pointer(from), 'remove', undefined), pointer(path), 'add', moved);
    }
    case 'test':
      if (JSON.stringify(valueAt(document, pointer(path))) === JSON.stringify(value)) return document;
      throw refused(`testing value ${path} failed`);
    default:
      throw refused(`unexpected kind: ${JSON.stringify(op)}`);
  }
}

/** RFC 6901: `/spec/bgp`, `~1` for a slash, `~0` for a tilde. */
function pointer(path: unknown): string[] {
  if (typeof path !== 'string' || (path !== '' && !path.startsWith('/')))
    throw refused(`expected a path such as /spec/bgp, got ${JSON.stringify(path)}`);
  return path
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function missing(step: string): InvalidError {
  return refused(`the patch names '${step}', which is not there`);
}

function valueAt(document: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, step) => {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) throw missing(step);
    return (value as PlainObject)[step];
  }, document);
}

function changed(
  document: unknown,
  path: readonly string[],
  op: 'add' | 'replace' | 'remove',
  value: unknown,
): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (Array.isArray(document)) return changedList(document, step, rest, op, value);
  if (!isPlainObject(document)) throw missing(step);
  if (!Object.hasOwn(document, step) && (rest.length || op !== 'add')) throw missing(step);
  if (!rest.length && op === 'remove') {
    const { [step]: _, ...others } = document;
    return others;
  }
  return { ...document, [step]: changed(document[step], rest, op, value) };
}

function changedList(
  list: readonly unknown[],
  step: string,
  rest: readonly string[],
  op: 'add' | 'replace' | 'remove',
  value: unknown,
): unknown[] {
  const index =
    step === '-' && op === 'add' ? list.length : /^(?:0|[1-9]\d*)$/.test(step) ? Number(step) : Number.NaN;
  const end = op === 'add' && !rest.length ? list.length : list.length - 1;
  if (!(index <= end)) throw missing(step);
  if (rest.length) return list.with(index, changed(list[index], rest, op, value));
  if (op === 'replace') return list.with(index, value);
  return op === 'add' ? list.toSpliced(index, 0, value) : list.toSpliced(index, 1);
}
