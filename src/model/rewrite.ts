/**
 * Changes of stored values that keep what we do not know: other programs' fields survive, 64-bit numbers too
 * (JSON.parse would round them), and keys stand in the order in which Calico writes them.
 */
import { parseExactJson, stringifyExactJson } from './exact-json.ts';
import { inOrder, METADATA_ORDER, OBJECT_ORDER } from './key-order.ts';

/** A stored object, or a part of one. Integers of 16 digits and more are bigint. */
export type PlainObject = Record<string, unknown>;

const BGP_ORDER = ['asNumber', 'ipv4Address', 'ipv6Address', 'ipv4IPIPTunnelAddr', 'routeReflectorClusterID'];

/**
 * Gives the new text; `change` may alter its argument in place or give another.
 * @throws SyntaxError where the text is no JSON
 */
export function rewriteStored(text: string, change: (object: PlainObject) => PlainObject): string {
  return stringifyExactJson(inCalicoOrder(change(parseExactJson(text) as PlainObject)));
}

function inCalicoOrder(object: PlainObject): PlainObject {
  const ordered = inOrder(object, OBJECT_ORDER);
  if (isPlainObject(ordered.metadata)) ordered.metadata = orderedMetadata(ordered.metadata);
  if (isPlainObject(ordered.spec) && isPlainObject(ordered.spec.bgp))
    ordered.spec = { ...ordered.spec, bgp: inOrder(ordered.spec.bgp, BGP_ORDER) };
  return ordered;
}

/** Calico leaves empty maps out. */
function orderedMetadata(metadata: PlainObject): PlainObject {
  const ordered = inOrder(metadata, METADATA_ORDER);
  for (const map of ['labels', 'annotations'])
    if (isPlainObject(ordered[map]) && !Object.keys(ordered[map]).length) delete ordered[map];
  return ordered;
}

export function isPlainObject(value: unknown): value is PlainObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
