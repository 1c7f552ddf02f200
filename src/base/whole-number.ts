/** Whole numbers that people type. */
import { UsageError } from './errors.ts';

/**
 * `text` as a number from `least` to `most`, in decimal digits without leading zeros; `what`: the flag, as they know it.
 * @throws UsageError
 */
export function wholeNumber(what: string, text: string, least: number, most: number): number {
  const value = /^(0|[1-9]\d*)$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new UsageError(`${what}: expected a whole number from ${least} to ${most}, got "${text}"`);
  return value;
}
