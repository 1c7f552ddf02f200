/** `tortie convert -f FILE`: v1 manifests as v3. */
import { InvalidError, UsageError } from '../../base/errors.ts';
import { goJson, type Json, printable } from '../../model/encode.ts';
import { refusalText } from '../../model/problem.ts';
import type { Resource } from '../../model/resources.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { readManifests } from '../manifest-files.ts';
import { withoutClusterFields } from '../output/print-resources.ts';
import { reportNothing } from '../output/tally.ts';
import { yaml } from '../output/yaml.ts';
import { addFileOptions, type FileOptions } from '../resource-options.ts';

interface ConvertOptions extends FileOptions {
  readonly output: string;
}

const CONTEXT = 'failed to create resources from file';

export function run(argv: readonly string[]): Promise<number> {
  const command = addFileOptions(newCommand('convert', "Print v1 manifests ('apiVersion: v1') as v3."));
  command.option('-o, --output <format>', 'yaml or json', 'yaml');
  command.addHelpText('after', '\nExample:\n  $ tortie convert -f pool-v1.yaml -o yaml');
  command.action(handler(convert));
  return runCommand(command, argv);
}

async function convert({ filename, recursive, skipEmpty, output }: ConvertOptions): Promise<number> {
  if (filename === undefined)
    throw new UsageError('tortie convert: expected -f FILE', { hint: "See 'tortie convert --help'." });
  if (output !== 'yaml' && output !== 'json')
    throw new UsageError(`unrecognized output format '${output}'`, { hint: 'Expected yaml or json.' });
  const documents = await readManifests(filename, recursive ?? false, CONTEXT);
  if (!documents.length) return reportNothing(filename, skipEmpty ?? false);
  const converted = documents.map(({ spelling, dialect, decoded }): Resource => {
    if (dialect !== 'v1')
      throw new InvalidError(
        'ERR_MANIFEST',
        `${CONTEXT}: unknown resource type (${spelling}) and/or version (projectcalico.org/v3)`,
        { hint: 'Only v1 manifests are converted; this one is v3 already.' },
      );
    if (!decoded.ok)
      throw new InvalidError('ERR_RESOURCE_REFUSED', `${CONTEXT}: ${refusalText(decoded.problems)}`);
    return withoutClusterFields(decoded.resource);
  });
  const items = converted.map(printable);
  const list: Json = { kind: 'List', apiVersion: 'v1', metadata: {}, items };
  const document = items.length === 1 ? items[0]! : list;
  process.stdout.write(output === 'yaml' ? yaml(document) : `${goJson(document, 2)}\n`);
  return 0;
}
