/** `tortie validate -f FILE`: judges manifests by themselves, without a datastore. */
import { InvalidError, UsageError } from '../../base/errors.ts';
import { refusalText } from '../../model/problem.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { readManifests } from '../manifest-files.ts';
import { reportNothing, reportTally } from '../output/tally.ts';
import { addFileOptions, type FileOptions } from '../resource-options.ts';

export function run(argv: readonly string[]): Promise<number> {
  const command = addFileOptions(newCommand('validate', 'Check manifests, without a datastore.'));
  command.option('--allow-version-mismatch', "accepted for calicoctl's sake; versions are never compared");
  command.addHelpText(
    'after',
    '\nOverlap with stored pools is not seen here; apply --dry-run sees it.\n\nExample:\n  $ tortie validate -f pool.yaml',
  );
  command.action(handler(validate));
  return runCommand(command, argv);
}

async function validate({ filename, recursive = false, skipEmpty = false }: FileOptions): Promise<number> {
  if (filename === undefined)
    throw new UsageError('tortie validate: expected -f FILE', { hint: "See 'tortie validate --help'." });
  const documents = await readManifests(filename, recursive, 'failed to execute command');
  if (!documents.length) return reportNothing(filename, skipEmpty);
  const errors = documents.flatMap(({ decoded }) =>
    decoded.ok ? [] : [new InvalidError('ERR_RESOURCE_REFUSED', refusalText(decoded.problems))],
  );
  return reportTally('validate', { spellings: documents.map(({ spelling }) => spelling), errors });
}
