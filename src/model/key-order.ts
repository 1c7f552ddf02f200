/** The order in which Kubernetes, and so Calico, prints keys; keys that we do not know come last. */
export const OBJECT_ORDER = ['kind', 'apiVersion', 'metadata', 'spec', 'status'];

export const METADATA_ORDER = [
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

/** The same object with its keys in that order; keys without a value are left out. */
export function inOrder(object: object, order: readonly string[]): Record<string, unknown> {
  const values = object as Readonly<Record<string, unknown>>;
  const known = order.filter((key) => values[key] !== undefined);
  const others = Object.keys(values).filter((key) => !order.includes(key));
  return Object.fromEntries([...known, ...others].map((key) => [key, values[key]]));
}
