/**
 * Scalars as Calico's client reads them (gopkg.in/yaml.v2 and its wrapper; calicoctl 3.31 asked): YAML 1.1's words for
 * booleans, C's octal numbers, underscores in numbers, and numbers and booleans where a text is wanted.
 */
import type { ScalarTag } from 'yaml';
import type { Problem } from './problem.ts';

const BOOLEAN: ScalarTag = {
  tag: 'tag:yaml.org,2002:bool',
  default: true,
  test: /^(?:[yYnN]|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$/,
  resolve: (text) => /^(?:y|on)/i.test(text),
};

const INTEGER: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  // What YAML 1.2 reads as decimal, or not as a number at all.
  test: /^[-+]?(?:0_*[0-7][0-7_]*|0b[01][01_]*|0x[\da-fA-F]+_[\da-fA-F_]*|[1-9]\d*_[\d_]*)$/,
  resolve: (text) => {
    const digits = text.replace(/_/g, '');
    const [, sign, rest = ''] = /^([-+]?)(.*)$/.exec(digits)!;
    const value = Number(/^0[0-7]/.test(rest) ? `0o${rest.slice(1)}` : rest);
    return sign === '-' ? -value : value;
  },
};

/** In front of YAML 1.2's own. */
export const CALICO_SCALARS: readonly ScalarTag[] = [BOOLEAN, INTEGER];

/**
 * The value with numbers and booleans as text where a problem says that a text is wanted; the very same value where
 * there is none. Numbers that JavaScript would write differently than Go, or not exactly, stay the problem that they are.
 */
export function withTexts(value: unknown, problems: readonly Problem[]): unknown {
  const wanted = problems.filter(({ wantsText, path }) => wantsText && textOf(at(value, path)) !== undefined);
  if (wanted.length === 0) return value;
  const copy = structuredClone(value);
  for (const { path } of wanted) {
    const holder = at(copy, path.slice(0, -1)) as Record<string | number, unknown>;
    const last = path.at(-1)!;
    holder[last] = textOf(holder[last]) ?? holder[last];
  }
  return copy;
}

function at(value: unknown, path: Problem['path']): unknown {
  return path.reduce((part, step) => (part as Record<string | number, unknown> | undefined)?.[step], value);
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'boolean') return String(value);
  if (typeof value !== 'number') return undefined;
  const alike = Number.isSafeInteger(value) || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6);
  return alike ? String(value) : undefined;
}
