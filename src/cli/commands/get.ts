/** `tortie get KIND [NAME…]` and `tortie get -f FILE`. */
import { TortieError } from '../../base/errors.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import type { ColumnContext } from '../output/columns.ts';
import { OUTPUT_FORMATS, parseOutputFormat } from '../output/output-format.ts';
import {
  type Presentation,
  presented,
  type Result,
  withoutClusterFields,
} from '../output/print-resources.ts';
import { reportNothing } from '../output/tally.ts';
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
  addDialectOption,
  addFileOptions,
  addResourceOptions,
  dialectOf,
  type FileOptions,
  type ResourceOptions,
  withClient,
} from '../resource-options.ts';

interface GetOptions extends ResourceOptions, FileOptions {
  readonly output: string;
  readonly allNamespaces?: boolean;
  readonly export?: boolean;
  readonly json?: boolean;
}

/** What Calico's nodes use where neither they nor BGPConfiguration `default` say another. */
const DEFAULT_AS_NUMBER = 64512;

export function run(argv: readonly string[]): Promise<number> {
  const command = newCommand(
    'get',
    'Show resources: all of a kind, some by name, or those that manifests name.',
  );
  addTargetArguments(command);
  command.option('-o, --output <format>', OUTPUT_FORMATS, 'ps').option('--json', 'the same as -o json');
  command.option('-A, --all-namespaces', 'of every namespace, and say which');
  command.option('--export', 'leave out what belongs to this cluster: uid, times, revision');
  addResourceOptions(addDialectOption(addFileOptions(command)));
  command.addHelpText(
    'after',
    '\nExamples:\n  $ tortie get nodes --output=wide\n  $ tortie get ippool 192.168.0.0/16 -o yaml',
  );
  command.action(handler(getResources));
  return runCommand(command, argv);
}

async function getResources(
  kindText: string | undefined,
  names: readonly string[],
  options: GetOptions,
): Promise<number> {
  requireKindOrFile('get', 'KIND [NAME…]', kindText, options);
  const presentation: Presentation = {
    format: parseOutputFormat(options.json ? 'json' : options.output),
    dialect: dialectOf(options),
    withNamespace: (options.allNamespaces ?? false) || options.namespace !== undefined,
  };
  const kind = kindText === undefined ? undefined : kindArgument(kindText, 'failed to get resources');
  const named = kind
    ? namedOnCommandLine(kind, names, presentation.dialect, options)
    : await namedInFiles(options, options);
  if (!kind && !named.length) return reportNothing(options.filename ?? '', options.skipEmpty ?? false);
  return withClient(options, async (client) => {
    const errors: TortieError[] = [];
    const results =
      kind && !named.length
        ? [await listed(client, kind, options)]
        : await namedResults(client, named, options.export ?? false, errors);
    const context = { defaultAsNumber: await defaultAsNumber(client, results, presentation) };
    if (results.length) process.stdout.write(presented(results, presentation, context));
    for (const { message, hint } of errors) process.stderr.write(`${message}\n${hint ? `${hint}\n` : ''}`);
    return errors[0]?.exitCode ?? 0;
  });
}

async function listed(client: ResourceClient, kind: Result['kind'], options: GetOptions): Promise<Result> {
  const namespace =
    kind === 'WorkloadEndpoint' && !options.allNamespaces ? (options.namespace ?? 'default') : undefined;
  const { resources, revision, skipped } = await client.list(kind, namespace);
  for (const problem of skipped) process.stderr.write(`skipped ${problem}\n`);
  return { type: 'list', kind, resources, revision };
}

async function namedResults(
  client: ResourceClient,
  named: readonly NamedResource[],
  exported: boolean,
  errors: TortieError[],
): Promise<Result[]> {
  const results: Result[] = [];
  for (const target of named) {
    try {
      const resource = await client.get(await client.resolve(target));
      results.push({
        type: 'one',
        kind: target.kind,
        resource: exported ? withoutClusterFields(resource) : resource,
      });
    } catch (error) {
      if (!(error instanceof TortieError && /^ERR_(?:RESOURCE|STORED)/.test(error.code))) throw error;
      errors.push(error);
    }
  }
  return results;
}

/** Read only where a table shows it; undefined where it cannot be read. */
async function defaultAsNumber(
  client: ResourceClient,
  results: readonly Result[],
  { format }: Presentation,
): Promise<ColumnContext['defaultAsNumber']> {
  const shown =
    format.type === 'table' && format.shown !== 'narrow' && results.some(({ kind }) => kind === 'Node');
  if (!shown) return undefined;
  try {
    const { spec } = await client.get({ kind: 'BGPConfiguration', name: 'default' });
    return spec.asNumber ?? DEFAULT_AS_NUMBER;
  } catch (error) {
    return hasCode(error, 'ERR_RESOURCE_NOT_FOUND') ? DEFAULT_AS_NUMBER : undefined;
  }
}
