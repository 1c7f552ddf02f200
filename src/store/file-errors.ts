/** What the operating system says about the file datastore's directory, as an error that a person can act on. */
import { DatastoreUnavailableError } from './datastore.ts';

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** The file (or a directory on the way to it) is not there. */
export function isMissing(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

interface Explanation {
  readonly says: string;
  readonly hint: string;
  readonly retryable: boolean;
}

function explanation(code: string | undefined, root: string): Explanation | undefined {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return {
        says: 'permission denied',
        hint: `Run as the owner of ${root}, or choose another datastore with --datastore.`,
        retryable: false,
      };
    case 'EROFS':
      return {
        says: 'the file system is read-only',
        hint: `Mount it writable, or choose another datastore with --datastore.`,
        retryable: false,
      };
    case 'ENOSPC':
    case 'EDQUOT':
      return {
        says: 'no space is left',
        hint: `Free some space (df ${root}); nothing was changed.`,
        retryable: true,
      };
    case 'EMFILE':
    case 'ENFILE':
      return { says: 'too many open files', hint: 'Raise the limit: ulimit -n.', retryable: true };
    case 'ENOTDIR':
    case 'EISDIR':
    case 'EEXIST':
    case 'ENOTEMPTY':
      return {
        says: 'a key cannot be a value and have keys below it, a file being no directory',
        hint: 'Delete the one key before the other is written.',
        retryable: false,
      };
    default:
      return undefined;
  }
}

/** An errno becomes a DatastoreUnavailableError that says what to do; anything else stays what it is. */
export function explainFileError(error: unknown, action: string, root: string): unknown {
  const code = errnoOf(error);
  if (!(error instanceof Error) || code === undefined || !('syscall' in error)) return error;
  const known = explanation(code, root);
  const path = 'path' in error && typeof error.path === 'string' ? ` (${error.path})` : '';
  return new DatastoreUnavailableError(
    `the datastore file://${root} could not ${action}: ${known?.says ?? error.message}${known ? path : ''}`,
    known?.retryable ?? true,
    { cause: error, ...(known && { hint: known.hint }) },
  );
}
