/**
 * Building blocks of the schemas. One description per kind is read in two ways: strictly where it judges a
 * manifest (an unknown field is an error), tolerantly where it reads a datastore (others may know more than we).
 *
 * The schemas are zod's, by its older interface `zod/v3`: it loads in a fifth of the time (20 ms against 90 ms where
 * `node -e 0` takes 100), and every command that reads a resource waits for it.
 */
import * as z from 'zod/v3';

export type Reading = 'strict' | 'tolerant';

/** Makes the objects of a description; keys come out in the order of the shape, which is Calico's. */
export type ObjectMaker = <Shape extends z.ZodRawShape>(shape: Shape) => z.ZodObject<Shape>;

export function objectMaker(reading: Reading): ObjectMaker {
  return reading === 'strict'
    ? (shape) => z.object(shape).strict() as unknown as z.ZodObject<typeof shape>
    : (shape) => z.object(shape);
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

/** Tells a problem; the path is relative to the object that is checked. */
export type Refuse = (path: readonly string[], refusal: Refusal) => void;

/**
 * Half of a description: what a schema of single fields cannot say. It gets the object as it was written, whatever
 * its fields are, so that all problems come out at once.
 */
export type Check = (object: Readonly<Record<string, unknown>>, refuse: Refuse) => void;
