/**
 * Resources to the text that Calico stores and prints: keys in Calico's order (`decode.ts` made them so), empty
 * values left out as Go's `omitempty` does, `<`, `>` and `&` escaped as Go's encoding/json does.
 */
import { inOrder, METADATA_ORDER } from './key-order.ts';
import type { Kind, Resource } from './resources.ts';

/** Go's maps: an empty value in them says something. */
const MAPS: ReadonlySet<string> = new Set(['labels', 'annotations']);

/** Which empty values a kind leaves out. Where its fields are pointers in Go, `false` and `[]` say something. */
const ABSENT_WHEN_EMPTY: Readonly<Record<Kind, 'all' | 'all but false' | 'texts'>> = {
  IPPool: 'all',
  Node: 'all but false',
  WorkloadEndpoint: 'all but false',
  BGPConfiguration: 'all but false',
  FelixConfiguration: 'texts',
  ClusterInformation: 'all but false',
  IPReservation: 'all but false',
};

/** Printed although empty: the one text field that Calico did not mark `omitempty`. */
const ALWAYS_PRINTED: ReadonlySet<string> = new Set(['bpfLogLevel']);

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** What is printed: a plain object without the fields that Calico leaves out. */
export function printable(resource: Resource): { readonly [key: string]: Json } {
  const { kind, apiVersion, metadata, spec, status } = resource;
  const rule = ABSENT_WHEN_EMPTY[kind];
  const printed = {
    kind,
    apiVersion,
    metadata: withoutEmpty(inOrder(metadata, METADATA_ORDER), 'all but false'),
    spec: withoutEmpty(spec, rule),
  };
  return (status === undefined ? printed : { ...printed, status: withoutEmpty(status, rule) }) as {
    [key: string]: Json;
  };
}

/** One line, as the datastore holds it: without the revision, which is the datastore's to tell. */
export function encodeStored(resource: Resource): string {
  const { resourceVersion: _, ...metadata } = resource.metadata;
  return goJson(printable({ ...resource, metadata }));
}

type Rule = (typeof ABSENT_WHEN_EMPTY)[Kind];

function withoutEmpty(value: unknown, rule: Rule): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutEmpty(item, rule));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(
    ([key, field]) => ALWAYS_PRINTED.has(key) || !isEmpty(field, rule),
  );
  return Object.fromEntries(
    entries.map(([key, field]) => [key, MAPS.has(key) ? field : withoutEmpty(field, rule)]),
  );
}

function isEmpty(value: unknown, rule: Rule): boolean {
  if (value === undefined || value === '') return true;
  if (value === false) return rule === 'all';
  if (typeof value !== 'object' || value === null || rule === 'texts') return false;
  return Object.keys(value).length === 0;
}

const ESCAPED_BY_GO = /[<>&\u2028\u2029]/g;

/** JSON as Go's encoding/json writes it. */
export function goJson(value: Json, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(
    ESCAPED_BY_GO,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
