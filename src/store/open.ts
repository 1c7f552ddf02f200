/** Opens the datastore that flags, configuration file and environment name: the store's composition root. */
import { systemClock } from '../base/clock.ts';
import { systemRandom } from '../base/random.ts';
import { type ConnectionSource, resolveConnection } from './connection.ts';
import { type Datastore, DatastoreUnavailableError } from './datastore.ts';
import { FileStore } from './file-store.ts';

/** @throws UsageError, InvalidError where what names the datastore makes no sense */
export async function openDatastore(source: ConnectionSource): Promise<Datastore> {
  const connection = await resolveConnection(source);
  switch (connection.type) {
    case 'file':
      return openFileStore(connection.directory);
    case 'etcd': {
      throw new DatastoreUnavailableError('etcd is not supported by this version yet', false);
    }
  }
}

/** The file datastore in a directory, which may not be there yet: the first writer makes it. */
export function openFileStore(directory: string): Datastore {
  return new FileStore({
    directory,
    lock: async () => (await import('../io/file-lock.ts')).flockLock,
    clock: systemClock,
    random: systemRandom,
  });
}
