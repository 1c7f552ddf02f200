/** The metadata that every resource has, in the order in which Kubernetes (and so Calico) prints it. */
import * as z from 'zod/v3';
import { type ObjectMaker, optionalInteger, optionalText, optionalTexts } from './fields.ts';

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

/** Why `name` cannot name a resource (RFC 1123 subdomain), in Calico's words; undefined where it can. */
export function nameProblem(name: string): string | undefined {
  if (name.length > MAX_NAME_BYTES) return `name is too long by ${name.length - MAX_NAME_BYTES} bytes`;
  return NAME.test(name)
    ? undefined
    : `name must consist of lower case alphanumeric characters, '-' or '.' (regex: ${DNS_SUBDOMAIN})`;
}
