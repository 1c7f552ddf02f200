/** `-f FILE|DIRECTORY|-`: where manifests come from. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FailedError, InvalidError, type TortieError } from '../base/errors.ts';
import { type ManifestDocument, parseManifest } from '../model/manifest.ts';

const MANIFEST_FILE = /\.(?:ya?ml|json)$/i;

/** More than this on standard input is no manifest. */
const MAX_INPUT_BYTES = 256 * 1024 * 1024;

/**
 * All documents of a file, of standard input (`-`), or of a directory's YAML and JSON files in the order of their
 * names, with `recursive` also of its subdirectories. `context` is what the command failed at, for messages.
 */
export async function readManifests(
  filename: string,
  recursive: boolean,
  context: string,
): Promise<ManifestDocument[]> {
  const documents: ManifestDocument[] = [];
  for (const file of await manifestFiles(filename, recursive, context)) {
    try {
      documents.push(...(await parseManifest(await bytesOf(file, context))));
    } catch (error) {
      throw error instanceof InvalidError
        ? inContext(error, context, file === filename ? undefined : file)
        : error;
    }
  }
  return documents;
}

function inContext(
  { code, message, hint }: TortieError,
  context: string,
  file: string | undefined,
): InvalidError {
  const where = file === undefined ? '' : `  in ${file}\n`;
  return new InvalidError(
    code,
    `${context}: ${message}`,
    where || hint ? { hint: `${where}${hint ?? ''}`.trimEnd() } : {},
  );
}

async function manifestFiles(filename: string, recursive: boolean, context: string): Promise<string[]> {
  if (filename === '-') return ['-'];
  try {
    if (!(await stat(filename)).isDirectory()) return [filename];
    const names = (await readdir(filename, { recursive })).filter((name) => MANIFEST_FILE.test(name));
    return names.sort().map((name) => join(filename, name));
  } catch (error) {
    throw cannotRead(filename, error, context);
  }
}

async function bytesOf(file: string, context: string): Promise<Uint8Array> {
  if (file === '-') return standardInput();
  try {
    return await readFile(file);
  } catch (error) {
    throw cannotRead(file, error, context);
  }
}

async function standardInput(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_INPUT_BYTES)
      throw new InvalidError(
        'ERR_MANIFEST',
        `error parsing document: expected at most ${MAX_INPUT_BYTES} bytes`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EISDIR: 'is a directory',
};

function cannotRead(file: string, error: unknown, context: string): FailedError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const why = WHY[code] ?? (error as Error).message;
  return new FailedError('ERR_MANIFEST_FILE', `${context}: open ${file}: ${why}`, { cause: error });
}
