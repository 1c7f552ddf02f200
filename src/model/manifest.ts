/**
 * Manifests: text in, resources out. Theory of operation:
 *  1. `splitDocuments` cuts the text at `---` lines; bounds on size and depth, and on the expansion of YAML aliases,
 *     come before anything is believed.
 *  2. Each document is JSON or YAML (the parser of YAML is loaded only for what is no JSON); lists, `List`s and
 *     `<Kind>List`s are taken apart into single values.
 *  3. Each value names its dialect (v3 or v1) and kind, and is decoded strictly; v1 becomes v3.
 * A document that cannot be read spoils the whole stream, as Calico has it: nothing of it may be stored then. A
 * document whose values are refused is kept with its problems, so that the others can still be applied.
 */
import type { Tags } from 'yaml';
import { InvalidError } from '../base/errors.ts';
import { decodeResource, decodeWith } from './decode.ts';
import { KINDS } from './kind-names.ts';
import { type Decoded, type Problem, pathText, problemText } from './problem.ts';
import { API_VERSION, type Kind, type Resource } from './resources.ts';
import { fromV1, isV1Kind, KIND_OF_V1 } from './v1.ts';
import { CALICO_SCALARS, withTexts } from './yaml-scalars.ts';

/** One resource of a manifest. */
export interface ManifestDocument {
  /** As the manifest spells it, for messages: `ipPool` or `IPPool`. */
  readonly spelling: string;
  readonly dialect: 'v1' | 'v3';
  readonly kind: Kind;
  /** What identifies it although it may be refused; of v3, empty where the manifest has none. */
  readonly name: string;
  readonly namespace: string | undefined;
  readonly decoded: Decoded<Resource>;
}

/** A directory of nodes for 20,000 hosts is below this; a document beyond it is a mistake or an attack. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;
const MAX_DEPTH = 64;
/** How many aliases may be resolved in a document, those inside of anchors multiplied. */
const MAX_ALIASES = 100;

/** Every resource of a text, in order; none for a text without documents. @throws InvalidError */
export async function parseManifest(bytes: Uint8Array): Promise<ManifestDocument[]> {
  const values: unknown[] = [];
  for (const text of splitDocuments(decodeText(bytes))) values.push(...flattened(await parseDocument(text)));
  const documents: ManifestDocument[] = [];
  const unreadable: { where: string; problems: readonly Problem[] }[] = [];
  for (const [i, value] of values.entries()) {
    const document = await decodeDocument(value);
    documents.push(document);
    const where = `document ${i + 1} (${document.spelling}${document.name && ` ${document.name}`})`;
    if (!document.decoded.ok && document.decoded.problems.some(({ sort }) => sort === 'unreadable'))
      unreadable.push({ where, problems: document.decoded.problems });
  }
  if (unreadable.length) throw unreadableError(unreadable);
  return documents;
}

function invalid(message: string, hint?: string): InvalidError {
  return new InvalidError('ERR_MANIFEST', message, hint ? { hint } : {});
}

function parsingError(message: string): InvalidError {
  return invalid(`error parsing document: ${message}`);
}

function decodeText(bytes: Uint8Array): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (!text.includes('\0')) return text;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  throw parsingError('expected YAML or JSON text in UTF-8, got binary data');
}

function splitDocuments(text: string): string[] {
  const documents = text.split(/^---(?=\s|$)/m);
  for (const document of documents)
    if (Buffer.byteLength(document) > MAX_DOCUMENT_BYTES)
      throw parsingError(
        `expected at most ${MAX_DOCUMENT_BYTES} bytes, got a document of ${Buffer.byteLength(document)}`,
      );
  return documents;
}

async function parseDocument(text: string): Promise<unknown> {
  const value = /^\s*[[{]/.test(text) ? (parseJson(text) ?? (await parseYaml(text))) : await parseYaml(text);
  if (isDeeperThan(value, MAX_DEPTH)) throw parsingError(`expected at most ${MAX_DEPTH} levels of nesting`);
  return value;
}

/** Undefined where it is no JSON: flow YAML begins alike. */
function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) throw parsingError(`key ${twice} is there twice in one object`);
  return value;
}

/** The first key that an object of a JSON text has twice: JSON.parse would take the last one silently. */
function repeatedKey(json: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [token, isKey] of json.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}]/g)) {
    const keys = open.at(-1);
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else if (isKey && keys) {
      const key = JSON.parse(token.slice(0, -isKey.length)) as string;
      if (keys.has(key)) return JSON.stringify(key);
      keys.add(key);
    }
  }
  return undefined;
}

async function parseYaml(text: string): Promise<unknown> {
  const { parseDocument: parse } = await import('yaml');
  try {
    const customTags = (tags: Tags) => [...CALICO_SCALARS, ...tags];
    const options = {
      merge: true,
      prettyErrors: true,
      logLevel: 'error',
      stringKeys: true,
      customTags,
    } as const;
    const document = parse(text, options);
    const [error] = document.errors;
    if (error) throw parsingError(`yaml: ${error.message}`);
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    if (error instanceof InvalidError) throw error;
    if (error instanceof RangeError) throw parsingError('yaml: nested too deeply');
    throw parsingError(`yaml: ${(error as Error).message}`);
  }
}

/** Without recursion: the depth is what is in question. */
function isDeeperThan(value: unknown, limit: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length; depth++) {
    if (depth > limit) return true;
    level = level.flatMap((item) => (typeof item === 'object' && item !== null ? Object.values(item) : []));
  }
  return false;
}

/** A list of resources, a `List` or an `IPPoolList` gives its items; anything else itself; nothing gives nothing. */
function flattened(value: unknown): unknown[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.flatMap(flattened);
  if (!isObject(value))
    throw parsingError(`expected a resource, got ${typeof value} '${String(value).slice(0, 60)}'`);
  const { kind, apiVersion, items } = value;
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) return [value];
  if (kind === 'List') return items.flatMap(flattened);
  return items.map((item) =>
    isObject(item) ? { kind: kind.slice(0, -'List'.length), apiVersion, ...item } : item,
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function decodeDocument(value: unknown): Promise<ManifestDocument> {
  if (!isObject(value)) throw parsingError(`expected a resource, got ${JSON.stringify(value)?.slice(0, 60)}`);
  const { kind: spelling = '', apiVersion = '' } = value;
  if (typeof spelling === 'string') {
    if (apiVersion === API_VERSION && (KINDS as readonly string[]).includes(spelling))
      return decodeV3(spelling as Kind, value);
    if (apiVersion === 'v1' && isV1Kind(spelling)) return decodeV1(spelling, value);
  }
  throw invalid(
    `unknown resource type (${String(spelling)}) and/or version (${String(apiVersion)})`,
    `Expected ${API_VERSION} with ${KINDS.join(', ')}, or v1 with ${Object.keys(KIND_OF_V1).join(', ')}.`,
  );
}

function decodeV3(kind: Kind, given: Record<string, unknown>): ManifestDocument {
  const { value, decoded } = decodeGiven(given, (read) => decodeResource(kind, read, 'strict'));
  const { name, namespace } = isObject(value.metadata) ? value.metadata : {};
  return {
    spelling: kind,
    dialect: 'v3',
    kind,
    name: typeof name === 'string' ? name : '',
    namespace: typeof namespace === 'string' ? namespace : undefined,
    decoded,
  };
}

/** A number or boolean where a text belongs is that text, as Calico's client has it. */
function decodeGiven<T>(
  given: Record<string, unknown>,
  decode: (value: Record<string, unknown>) => Decoded<T>,
): { value: Record<string, unknown>; decoded: Decoded<T> } {
  const decoded = decode(given);
  const value = decoded.ok ? given : (withTexts(given, decoded.problems) as Record<string, unknown>);
  return { value, decoded: value === given ? decoded : decode(value) };
}

async function decodeV1(
  spelling: keyof typeof KIND_OF_V1,
  given: Record<string, unknown>,
): Promise<ManifestDocument> {
  const { V1_DESCRIPTIONS } = await import('./v1-schemas.ts');
  const kind = KIND_OF_V1[spelling];
  const { schema, check } = V1_DESCRIPTIONS[spelling];
  const { value, decoded: read } = decodeGiven(given, (each) => decodeWith(schema, check, each));
  if (!read.ok) {
    const { name, cidr } = isObject(value.metadata) ? value.metadata : {};
    const decoded = { ok: false, problems: read.problems } as const;
    return { spelling, dialect: 'v1', kind, name: String(cidr ?? name ?? ''), namespace: undefined, decoded };
  }
  const v3 = fromV1(read.resource);
  const { name, namespace } = v3.metadata as { name: string; namespace?: string };
  return { spelling, dialect: 'v1', kind, name, namespace, decoded: decodeResource(kind, v3, 'strict') };
}

/** Calico's line first, for the first problem; where there are more, all of them with their paths. */
function unreadableError(found: readonly { where: string; problems: readonly Problem[] }[]): InvalidError {
  const all = found.flatMap(({ problems }) => problems);
  const unknown = all.filter(({ reason }) => reason === 'unknown field').map(({ path }) => path.at(-1));
  const first = all.find(({ sort }) => sort === 'unreadable');
  const headline =
    unknown.length === 1
      ? `field in document is not recognized or is in the wrong location: ${unknown[0]}`
      : unknown.length
        ? `fields in document are not recognized or are in the wrong location: ${unknown.join(', ')}`
        : first?.reason;
  const lines = found.flatMap(({ where, problems }) =>
    problems.map(
      (p) => `  ${where}: ${p.sort === 'unreadable' ? `${pathText(p.path)}: ${p.reason}` : problemText(p)}`,
    ),
  );
  return invalid(`error parsing document: ${headline}`, lines.join('\n'));
}
