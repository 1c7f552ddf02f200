/** The flags that the commands on resources share, and the client that they lead to. */
import type { Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import type { Datastore } from '../store/datastore.ts';
import { addDatastoreOptions, type DatastoreOptions, openFromOptions } from './datastore-options.ts';
import type { Dialect } from './output/columns.ts';
import { ResourceClient, type Stamps } from './resource-client.ts';

export interface ResourceOptions extends DatastoreOptions {
  readonly namespace?: string;
  readonly apiVersion?: string;
}

export interface FileOptions {
  readonly filename?: string;
  readonly recursive?: boolean;
  readonly skipEmpty?: boolean;
}

export function addFileOptions(command: Command): Command {
  return command
    .option('-f, --filename <file>', 'manifest to read: a file, a directory, or - for standard input')
    .option('-R, --recursive', 'with a directory: its subdirectories too')
    .option('--skip-empty', 'no error where there is no resource in the files');
}

export function addResourceOptions(command: Command): Command {
  return addDatastoreOptions(command)
    .option(
      '-n, --namespace <namespace>',
      'namespace of the resources, for kinds that have one [default: default]',
    )
    .option('--context <context>', "accepted for calicoctl's sake; there is one datastore at a time")
    .option('--allow-version-mismatch', "accepted for calicoctl's sake; versions are never compared");
}

export function addDialectOption(command: Command): Command {
  return command.option(
    '--api-version <version>',
    'dialect of what is printed: v1 or v3 [default: TORTIE_API_VERSION, else v3]',
  );
}

export function dialectOf({ apiVersion }: ResourceOptions): Dialect {
  const text = (apiVersion ?? process.env.TORTIE_API_VERSION) || 'v3';
  if (text === 'v1') return 'v1';
  if (text === 'v3' || text === 'projectcalico.org/v3') return 'v3';
  throw new UsageError(`--api-version: expected v1 or v3, got '${text}'`);
}

/** `crypto` is loaded when the first uid is made: most commands make none. */
const stamps: Stamps = { uid: () => globalThis.crypto.randomUUID(), now: () => new Date() };

/** Opens the datastore for as long as `use` takes. */
export async function withClient<T>(
  options: DatastoreOptions,
  use: (client: ResourceClient, store: Datastore) => Promise<T>,
): Promise<T> {
  const store = await openFromOptions(options, process.env);
  try {
    return await use(new ResourceClient(store, stamps), store);
  } finally {
    await store.close();
  }
}
