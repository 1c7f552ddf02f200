/** Which keys the file datastore takes, and where their files are. A key is the path below the directory. */
import { join } from 'node:path';
import { InvalidError } from '../base/errors.ts';

/** What is the store's own, below its directory: lock, change log, index of revisions. */
export const OWN_DIRECTORY = '.tortie';

/** NAME_MAX and PATH_MAX of Linux, in bytes; the margin is for the directory and `.tortie/keys`. */
const NAME_BYTES = 255;
const KEY_BYTES = 3_000;

/** Editors leave `.name.swp` and `name~` beside what they edit: neither is a key. */
export function isKeyName(name: string): boolean {
  return name !== '' && !name.startsWith('.') && !name.endsWith('~');
}

function problemOf(key: string): string | undefined {
  if (!key.startsWith('/')) return 'must begin with /';
  if (key.includes('\0')) return 'has a NUL character';
  if (Buffer.byteLength(key) > KEY_BYTES) return `is longer than ${KEY_BYTES} bytes`;
  for (const name of key.slice(1).split('/')) {
    if (name === '') return 'has an empty segment';
    if (Buffer.byteLength(name) > NAME_BYTES) return `has a segment longer than ${NAME_BYTES} bytes`;
    if (!isKeyName(name)) return `has a segment that begins with a dot or ends in ~: ${JSON.stringify(name)}`;
  }
  return undefined;
}

/** @throws InvalidError where the key is no safe path */
export function checkKey(key: string): void {
  const problem = problemOf(key);
  if (!problem) return;
  const shown = JSON.stringify(key.length > 200 ? `${key.slice(0, 200)}…` : key);
  throw new InvalidError('ERR_STORE_KEY', `the file datastore cannot hold the key ${shown}: it ${problem}`);
}

/** @throws InvalidError where the prefix is no safe directory */
export function checkPrefix(prefix: string): void {
  if (!prefix.endsWith('/'))
    throw new InvalidError('ERR_STORE_KEY', `a prefix ends in /, got ${JSON.stringify(prefix)}`);
  if (prefix !== '/') checkKey(prefix.slice(0, -1));
}

export function valuePath(root: string, key: string): string {
  return join(root, key);
}

export function indexPath(root: string, key: string): string {
  return join(root, OWN_DIRECTORY, 'keys', key);
}
