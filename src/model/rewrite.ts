/**
 * Changes of stored values that keep what we do not know: other programs' fields survive, 64-bit numbers too
 * (JSON.parse would round them), and keys stand in the order in which Calico writes them.
 */
import { parseExactJson, stringifyExactJson } from './exact-json.ts';

/** A stored object, or a part of one. Integers of 16 digits and more are bigint. */
export type PlainObject = Record<string, unknown>;

const OBJECT_ORDER = ['kind', 'apiVersion', 'metadata', 'spec', 'status'];
const METADATA_ORDER = [
  'name',
  'generateName',
  'namespace',
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'ownerReferences',
  'finalizers',
  'managedFields',
];
const BGP_ORDER = ['asNumber', 'ipv4Address', 'ipv6Address', 'ipv4IPIPTunnelAddr', 'routeReflectorClusterID'];

/**
 * Gives the new text; `change` may alter its argument in place or give another.
 * @throws SyntaxError where the text is no JSON
 */
export function rewriteStored(text: string, change: (object: PlainObject) => PlainObject): string {
  return stringifyExactJson(inCalicoOrder(change(parseExactJson(text) as PlainObject)));
}

function inCalicoOrder(object: PlainObject): PlainObject {
  const ordered = sorted(object, OBJECT_ORDER);
  if (isPlainObject(ordered.metadata)) ordered.metadata = orderedMetadata(ordered.metadata);
  if (isPlainObject(ordered.spec) && isPlainObject(ordered.spec.bgp))
    ordered.spec = { ...ordered.spec, bgp: sorted(ordered.spec.bgp, BGP_ORDER) };
  return ordered;
}

/** Calico leaves empty maps out. */
function orderedMetadata(metadata: PlainObject): PlainObject {
  const ordered = sorted(metadata, METADATA_ORDER);
  for (const map of ['labels', 'annotations'])
    if (isPlainObject(ordered[map]) && !Object.keys(ordered[map]).length) delete ordered[map];
  return ordered;
}

function sorted(object: PlainObject, order: readonly string[]): PlainObject {
  const known = order.filter((key) => object[key] !== undefined);
  const others = Object.keys(object).filter((key) => !order.includes(key));
  return Object.fromEntries([...known, ...others].map((key) => [key, object[key]]));
}

export function isPlainObject(value: unknown): value is PlainObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
