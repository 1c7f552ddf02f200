/** Read, change, compare-and-swap, again after a conflict: what `label` and `patch` do. */
import type { Entry } from '../store/datastore.ts';
import { hasCode, type ResourceClient, type ResourceId } from './resource-client.ts';

const MAX_ATTEMPTS = 5;

/** `change` gives the new text, and whatever else the caller wants back of the attempt that was written. */
export async function rewriteWithRetries<T extends { readonly text: string }>(
  client: ResourceClient,
  id: ResourceId,
  change: (entry: Entry) => T,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const entry = await client.getEntry(id);
    const changed = change(entry);
    try {
      await client.rewrite(id, entry, changed.text);
      return changed;
    } catch (error) {
      if (attempt === MAX_ATTEMPTS || !hasCode(error, 'ERR_RESOURCE_CONFLICT')) throw error;
    }
  }
}
