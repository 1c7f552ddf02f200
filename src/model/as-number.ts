/** AS numbers: 32 bits (RFC 6793), as a number, as a decimal string, or dotted 16.16 (RFC 5396 asdot+). */
import * as z from 'zod/v3';

const MAX_AS_NUMBER = 0xffff_ffff;
const MAX_HALF = 0xffff;

export function parseAsNumber(value: number | string): number | undefined {
  if (typeof value === 'number')
    return Number.isInteger(value) && value >= 0 && value <= MAX_AS_NUMBER ? value : undefined;
  if (/^\d+$/.test(value)) return parseAsNumber(Number(value));
  const dotted = /^(\d+)\.(\d+)$/.exec(value);
  if (!dotted) return undefined;
  const [high, low] = [Number(dotted[1]), Number(dotted[2])];
  return high <= MAX_HALF && low <= MAX_HALF ? high * (MAX_HALF + 1) + low : undefined;
}

export const asNumberField = z.union([z.number(), z.string()]).transform((value, context): number => {
  const number = parseAsNumber(value);
  if (number !== undefined) return number;
  const reason = `invalid AS Number format (${value}): expected 0 to ${MAX_AS_NUMBER}, or dotted 1.10`;
  context.addIssue({ code: 'custom', message: reason, params: { unreadable: true, reason } });
  return z.NEVER;
});
