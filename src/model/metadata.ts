/** The metadata that every resource has, in the order in which Kubernetes (and so Calico) prints it. */
import * as z from 'zod/v3';
import { type ObjectMaker, optionalInteger, optionalText, optionalTexts } from './fields.ts';
import type { Problem } from './problem.ts';

const labels = z.record(z.string(), z.string()).optional();

export function metadataSchema(object: ObjectMaker) {
  return object({
    name: z.string().default(''),
    generateName: optionalText,
    namespace: optionalText,
    selfLink: optionalText,
    uid: optionalText,
    resourceVersion: optionalText,
    generation: optionalInteger,
    creationTimestamp: optionalText,
    deletionTimestamp: optionalText,
    deletionGracePeriodSeconds: optionalInteger,
    labels,
    annotations: labels,
    ownerReferences: z.array(z.unknown()).optional(),
    finalizers: optionalTexts,
    managedFields: z.array(z.unknown()).optional(),
  });
}

const DNS_SUBDOMAIN = '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*';
const NAME = new RegExp(`^${DNS_SUBDOMAIN}$`);
const MAX_NAME_BYTES = 253;
/** Kubernetes' `qualified name` and label value, of at most 63 characters. */
const QUALIFIED = /^(?=.{1,63}$)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const QUALIFIED_TEXT = "at most 63 alphanumeric characters, '-', '_' or '.', alphanumeric at both ends";

/** Why `name` cannot name a resource (RFC 1123 subdomain), in Calico's words; undefined where it can. */
export function nameProblem(name: string): string | undefined {
  if (name.length > MAX_NAME_BYTES) return `name is too long by ${name.length - MAX_NAME_BYTES} bytes`;
  return NAME.test(name)
    ? undefined
    : `name must consist of lower case alphanumeric characters, '-' or '.' (regex: ${DNS_SUBDOMAIN})`;
}

/** What Kubernetes and Calico would refuse of labels and of the keys of annotations. */
export function labelProblems(metadata: unknown): Problem[] {
  const { labels, annotations } = (metadata ?? {}) as Readonly<Record<'labels' | 'annotations', unknown>>;
  const problems: Problem[] = [];
  for (const [key, value] of entriesOf(labels)) {
    const path = ['metadata', 'labels', key];
    if (!isQualifiedName(key))
      problems.push(
        refusal(
          path,
          'Metadata.Labels (label)',
          key,
          `expected [PREFIX/]NAME, the name of ${QUALIFIED_TEXT}`,
        ),
      );
    if (typeof value === 'string' && value !== '' && !QUALIFIED.test(value))
      problems.push(refusal(path, 'Metadata.Labels (value)', value, `expected ${QUALIFIED_TEXT}`));
  }
  for (const [key] of entriesOf(annotations))
    if (!isQualifiedName(key.toLowerCase()))
      problems.push(
        refusal(
          ['metadata', 'annotations', key],
          'Metadata.Annotations (key)',
          key,
          `expected [PREFIX/]NAME, the name of ${QUALIFIED_TEXT}`,
        ),
      );
  return problems;
}

function refusal(path: readonly string[], field: string, value: string, reason: string): Problem {
  return { sort: 'refused', path, field, value, reason };
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}

function isQualifiedName(key: string): boolean {
  const [name = '', prefix, ...more] = key.split('/').reverse();
  return !more.length && QUALIFIED.test(name) && (prefix === undefined || nameProblem(prefix) === undefined);
}
