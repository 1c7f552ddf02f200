/**
 * Building blocks of the schemas. One description per kind is read in two ways: strictly where it judges a
 * manifest (an unknown field is an error), tolerantly where it reads a datastore (others may know more than we).
 */
import * as z from 'zod';

export type Reading = 'strict' | 'tolerant';

/** Makes the objects of a description; keys come out in the order of the shape, which is Calico's. */
export type ObjectMaker = typeof z.object;

export function objectMaker(reading: Reading): ObjectMaker {
  return reading === 'strict' ? (z.strictObject as unknown as ObjectMaker) : z.object;
}

/** How a refused value is told; `params` travels with zod's issue to `decode.ts`. */
export interface Refusal {
  readonly field?: string;
  readonly value?: string;
  readonly reason: string;
}

export const text = z.string();
export const optionalText = z.string().optional();
export const optionalFlag = z.boolean().optional();
export const optionalInteger = z.number().int().optional();
export const optionalTexts = z.array(z.string()).optional();

/** Go reads an absent and an empty value alike; so `""` takes the default too. */
export function oneOf<const T extends readonly [string, ...string[]]>(
  values: T,
  byDefault: NoInfer<T[number]>,
  refusal: Omit<Refusal, 'reason'>,
) {
  return z.preprocess(
    (value) => (value === '' || value === undefined ? byDefault : value),
    z.string().transform((value, context): T[number] => {
      if ((values as readonly string[]).includes(value)) return value;
      const reason = `expected one of ${values.join(', ')}`;
      context.addIssue({ code: 'custom', message: reason, params: { ...refusal, value, reason } });
      return z.NEVER;
    }),
  );
}

/** A check across fields that runs even where single fields are wrong already: all problems come out at once. */
export function across<S extends z.ZodType>(
  schema: S,
  check: (value: Record<string, unknown>, refuse: (path: string[], refusal: Refusal) => void) => void,
): S {
  return schema.check(
    z.superRefine(
      (value, context) => {
        if (typeof value !== 'object' || value === null) return;
        check(value as Record<string, unknown>, (path, refusal) =>
          context.addIssue({ code: 'custom', path, message: refusal.reason, params: { ...refusal } }),
        );
      },
      { when: () => true },
    ),
  ) as S;
}
