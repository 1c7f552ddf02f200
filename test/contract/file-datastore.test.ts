import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileStore } from '../../src/store/open.ts';
import { datastoreContract } from './datastore.contract.ts';

datastoreContract('file', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tortie-store-'));
  return {
    open: async () => openFileStore(join(directory, 'store')),
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
});
