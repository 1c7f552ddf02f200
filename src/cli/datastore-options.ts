/** The flags that name a datastore, the same in every command: `--datastore URL`, `-c FILE`. */
import type { Command } from 'commander';
import type { Datastore } from '../store/datastore.ts';

export interface DatastoreOptions {
  readonly datastore?: string;
  readonly config?: string;
}

export function addDatastoreOptions(command: Command): Command {
  return command
    .option(
      '--datastore <url>',
      'file:///directory, etcd://host:2379[,host:2379…], etcds://… or https://… (TLS); ' +
        "default $TORTIE_DATASTORE, else calicoctl's environment (ETCD_ENDPOINTS…), else files",
    )
    .option('-c, --config <file>', 'a CalicoAPIConfig that names the etcd datastore');
}

/** The datastore that a command's parsed flags, or else the environment, name. */
export async function openFromOptions(options: DatastoreOptions, env: NodeJS.ProcessEnv): Promise<Datastore> {
  // Loaded here, so that a command's help and flags come without it.
  const { openDatastore } = await import('../store/open.ts');
  return openDatastore({ ...options, env });
}
