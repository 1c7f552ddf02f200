/** `tortie delete KIND NAME…` and `tortie delete -f FILE`. */
import { TortieError } from '../../base/errors.ts';
import type { Datastore } from '../../store/datastore.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { deleteBelongings } from '../node-belongings.ts';
import { reportDeleted, reportNothing } from '../output/tally.ts';
import { releaseAddressesOf } from '../release-addresses.ts';
import {
  addTargetArguments,
  kindArgument,
  type NamedResource,
  namedInFiles,
  namedOnCommandLine,
  requireKindOrFile,
} from '../resource-arguments.ts';
import { hasCode, type ResourceClient } from '../resource-client.ts';
import {
  addFileOptions,
  addResourceOptions,
  dialectOf,
  type FileOptions,
  type ResourceOptions,
  withClient,
} from '../resource-options.ts';

interface DeleteOptions extends ResourceOptions, FileOptions {
  readonly skipNotExists?: boolean;
  readonly dryRun?: boolean;
}

export function run(argv: readonly string[]): Promise<number> {
  const command = newCommand('delete', 'Delete resources, by kind and name or by manifest.');
  addTargetArguments(command);
  command.option('-s, --skip-not-exists', 'count what is not there as deleted');
  command.option('--dry-run', 'say what would be deleted, but delete nothing');
  addResourceOptions(addFileOptions(command));
  command.addHelpText(
    'after',
    '\nExamples:\n  $ tortie delete ippool 192-168-0-0-16\n  $ tortie delete -f pool.yaml',
  );
  command.action(handler(deleteResources));
  return runCommand(command, argv);
}

async function deleteResources(
  kind: string | undefined,
  names: readonly string[],
  options: DeleteOptions,
): Promise<number> {
  requireKindOrFile('delete', 'KIND NAME…', kind, options);
  const targets =
    kind === undefined
      ? await namedInFiles(options, options)
      : namedOnCommandLine(
          kindArgument(kind, 'failed to execute command'),
          names.length ? names : [''],
          dialectOf(options),
          options,
        );
  if (!targets.length) return reportNothing(options.filename ?? '', options.skipEmpty ?? false);
  return withClient(options, async (client, store) => {
    const errors: TortieError[] = [];
    for (const target of targets) {
      try {
        await deleteOne(client, store, target, options);
      } catch (error) {
        if (!(error instanceof TortieError && /^ERR_(?:RESOURCE|STORE_KEY)/.test(error.code))) throw error;
        if (!(options.skipNotExists && hasCode(error, 'ERR_RESOURCE_NOT_FOUND'))) errors.push(error);
      }
    }
    return reportDeleted({
      spellings: targets.map(({ spelling }) => spelling),
      errors,
      dryRun: options.dryRun ?? false,
    });
  });
}

async function deleteOne(
  client: ResourceClient,
  store: Datastore,
  target: NamedResource,
  { dryRun }: DeleteOptions,
): Promise<void> {
  const id = await client.resolve(target);
  const { revision } = await client.getEntry(id);
  if (dryRun) return;
  const wanted = target.resourceVersion;
  if (wanted === undefined || wanted === revision) {
    await releaseAddressesOf(client, store, id);
    if (id.kind === 'Node') await deleteBelongings(client, id.name);
  }
  // Releasing may have written the object; what the manifest insists on was compared before.
  await client.delete(id, wanted === revision ? undefined : wanted);
}
