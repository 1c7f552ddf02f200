/** Opens the datastore that flags, configuration file and environment name: the store's composition root. */
import { systemClock } from '../base/clock.ts';
import { systemRandom } from '../base/random.ts';
import { type ConnectionSource, resolveConnection } from './connection.ts';
import type { Datastore } from './datastore.ts';
import { FileStore } from './file-store.ts';

/** @throws UsageError, InvalidError where what names the datastore makes no sense */
export async function openDatastore(source: ConnectionSource): Promise<Datastore> {
  const connection = await resolveConnection(source);
  switch (connection.type) {
    case 'file':
      return openFileStore(connection.directory);
    case 'etcd': {
      // Node warns of a TLS server name that is an address (DEP0123); grpc-js sets it, and nobody here can mend it.
      if (connection.tls) process.noDeprecation = true;
      const { EtcdStore } = await import('./etcd-store.ts');
      return new EtcdStore(connection, systemClock);
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
