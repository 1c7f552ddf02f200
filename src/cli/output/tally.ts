/** The last lines of commands that handle many resources: how many succeeded, and which errors the others met. */
import { InvalidError, type TortieError } from '../../base/errors.ts';

export interface Tally {
  /** The kind of each resource, as the manifest or the command line spelled it. */
  readonly spellings: readonly string[];
  readonly errors: readonly TortieError[];
  readonly dryRun?: boolean;
}

const PAST = {
  create: 'created',
  apply: 'applied',
  replace: 'replaced',
  delete: 'deleted',
  validate: 'validated',
};
const SAYS_ERRORS: ReadonlySet<string> = new Set(['apply', 'validate']);

/** `'IPPool' ` where all are of one kind, else nothing. */
function kindText({ spellings }: Tally): string {
  return new Set(spellings).size === 1 ? `'${spellings[0]}' ` : '';
}

function exitCodeOf({ errors }: Tally): number {
  if (!errors.length) return 0;
  return errors.some((error) => error.exitCode === 3) ? 3 : 1;
}

function printSuccess(verb: keyof typeof PAST, count: number, tally: Tally): void {
  const how = tally.dryRun ? 'Dry run: would have' : 'Successfully';
  process.stdout.write(`${how} ${PAST[verb]} ${count} ${kindText(tally)}resource(s)\n`);
}

/** Gives the exit code. */
export function reportTally(verb: 'create' | 'apply' | 'validate', tally: Tally): number {
  const { spellings, errors } = tally;
  const done = spellings.length - errors.length;
  const list = `[${errors.map(({ message }) => message).join(' ')}]`;
  if (!errors.length) printSuccess(verb, done, tally);
  else if (done === 0) {
    const what = spellings.length === 1 ? `${kindText(tally)}resource` : `any ${kindText(tally)}resources`;
    process.stderr.write(`failed to ${verb} ${what}: ${list}\n`);
  } else {
    // Calico says "partial" only where more succeeded than failed.
    if (done > errors.length) printPartial(verb, done, tally);
    process.stderr.write(`hit error${SAYS_ERRORS.has(verb) ? '(s)' : ''}: ${list}\n`);
  }
  return exitCodeOf(tally);
}

/** Of `replace` Calico counts what it tried, not what succeeded. */
export function reportReplaced(tally: Tally): number {
  const { spellings, errors } = tally;
  if (!errors.length) printSuccess('replace', spellings.length, tally);
  else printPartial('replace', spellings.length, tally);
  for (const { message } of errors) process.stderr.write(`hit error: ${message}\n`);
  return exitCodeOf(tally);
}

export function reportDeleted(tally: Tally): number {
  const { spellings, errors } = tally;
  if (spellings.length > errors.length) printSuccess('delete', spellings.length - errors.length, tally);
  for (const { message } of errors)
    process.stderr.write(`Failed to delete ${kindText(tally)}resource: ${message}\n`);
  return exitCodeOf(tally);
}

function printPartial(verb: keyof typeof PAST, done: number, tally: Tally): void {
  const count = `${done} out of ${tally.spellings.length}`;
  process.stdout.write(`Partial success: ${PAST[verb]} the first ${count} ${kindText(tally)}resources:\n`);
}

/** @throws InvalidError unless that is what the user said is fine */
export function reportNothing(filename: string, skipEmpty: boolean): number {
  if (!skipEmpty) throw new InvalidError('ERR_MANIFEST_EMPTY', `no resources specified in file ${filename}`);
  process.stdout.write('No resources specified\n');
  return 0;
}
