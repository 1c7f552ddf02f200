/**
 * Resources to the text that Calico stores and prints: keys in Calico's order (`decode.ts` made them so), empty
 * values left out as Go's `omitempty` does, `<`, `>` and `&` escaped as Go's encoding/json does.
 */
import { inOrder, METADATA_ORDER } from './key-order.ts';
import type { Kind, Resource } from './resources.ts';

/** Printed although empty: the one string field that Calico did not mark `omitempty`. */
const PRINTED_WHEN_EMPTY = new Set(['bpfLogLevel']);

/** Pools have plain booleans, false is left out; elsewhere a false that was given says something. */
const FALSE_IS_ABSENT: ReadonlySet<Kind> = new Set<Kind>(['IPPool']);

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** What is printed: a plain object without the fields that Calico leaves out. */
export function printable(resource: Resource): { readonly [key: string]: Json } {
  const { kind, apiVersion, metadata, spec, status } = resource;
  const printed = {
    kind,
    apiVersion,
    metadata: withoutEmpty(inOrder(metadata, METADATA_ORDER), false),
    spec: withoutEmpty(spec, FALSE_IS_ABSENT.has(kind)),
  };
  return (status === undefined ? printed : { ...printed, status: withoutEmpty(status, false) }) as {
    [key: string]: Json;
  };
}

/** One line, as the datastore holds it: without the revision, which is the datastore's to tell. */
export function encodeStored(resource: Resource): string {
  const { resourceVersion: _, ...metadata } = resource.metadata;
  return goJson(printable({ ...resource, metadata }));
}

function withoutEmpty(value: unknown, dropFalse: boolean): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutEmpty(item, dropFalse));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(
    ([key, field]) => !isEmpty(field, dropFalse) || PRINTED_WHEN_EMPTY.has(key),
  );
  return Object.fromEntries(entries.map(([key, field]) => [key, withoutEmpty(field, dropFalse)]));
}

function isEmpty(value: unknown, dropFalse: boolean): boolean {
  if (value === undefined || value === '' || (dropFalse && value === false)) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

const ESCAPED_BY_GO = /[<>&\u2028\u2029]/g;

/** JSON as Go's encoding/json writes it. */
export function goJson(value: Json, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(
    ESCAPED_BY_GO,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
