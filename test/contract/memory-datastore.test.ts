import { MemoryContent, MemoryStore } from '../helpers/memory-store.ts';
import { datastoreContract } from './datastore.contract.ts';

datastoreContract('memory', async () => {
  const content = new MemoryContent();
  return { open: async () => new MemoryStore(content), dispose: async () => {} };
});
