/** The house's rules about files (CONTRIBUTING.md): sizes, names, theories of operation, no chance, no sleeps. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const FILE_LINES_MAX = 500;
const THEORY_LINES_MAX = 40;

interface SourceFile {
  readonly name: string;
  readonly text: string;
}

function filesBelow(folder: string): SourceFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
    .map((name) => ({ name, text: readFileSync(join(ROOT, name), 'utf8') }));
}

const src = filesBelow('src');
const tests = filesBelow('test');

/** `name:line` of every match. */
function places(files: readonly SourceFile[], pattern: RegExp): string[] {
  return files.flatMap(({ name, text }) =>
    [...text.matchAll(pattern)].map((match) => `${name}:${text.slice(0, match.index).split('\n').length}`),
  );
}

test('no file has more than 500 lines, unless its first lines say why (// size: REASON)', () => {
  const large = [...src, ...tests].filter(
    ({ text }) => text.split('\n').length > FILE_LINES_MAX && !/^(?:.*\n){0,60}?\/\/ size: \S+/.test(text),
  );
  expect(large.map(({ name, text }) => `${name}: ${text.split('\n').length} lines`)).toEqual([]);
});

test('a file is named after its one subject', () => {
  const vague = /(^|[-/])(utils?|helpers?|common|misc|stuff|shared)\.ts$/;
  expect(src.map(({ name }) => name).filter((name) => vague.test(name))).toEqual([]);
  const files = [...src, ...tests].map(({ name }) => name);
  expect(files.filter((name) => /[A-Z_]/.test(name))).toEqual([]);
});

test('chance comes from base/random.ts, so that a seed repeats it', () => {
  const others = [...src, ...tests].filter(
    ({ name }) => name !== 'src/base/random.ts' && !name.startsWith('test/architecture/'),
  );
  expect(places(others, /\bMath\.random\(/g)).toEqual([]);
});

test('the pure folders own no clock', () => {
  const pure = src.filter(({ name }) => /^src\/(ip|wire|fib|model|ipam|ebpf)\//.test(name));
  expect(places(pure, /\b(Date\.now|performance\.now|setTimeout|setInterval|new Date\(\))/g)).toEqual([]);
});

test('tests poll with a deadline and never just sleep, unless the line says why (// sleeps: REASON)', () => {
  // A promise that a timer resolves, a clock's sleep of a fixed time, a `sleep` that a test waits for.
  const sleeps =
    /(?:new Promise\(\s*\(?\w+\)?\s*=>\s*setTimeout|\bawait (?:systemClock\.sleep|sleep|setTimeout)\()(?!.*\/\/ sleeps: \S)/g;
  expect(places(tests, sleeps)).toEqual([]);
});

test('no test is left out silently or alone', () => {
  expect(places(tests, /\b(test|it|describe)\.(only|todo)\(/g)).toEqual([]);
});

test('what is unfinished is an issue, not a comment', () => {
  const words = new RegExp(
    `\\b(${['TO', 'FIX', 'XX'].map((w, i) => w + ['DO', 'ME', 'X'][i]).join('|')})\\b`,
    'g',
  );
  expect(places([...src, ...tests], words)).toEqual([]);
});

/** Leaves without a flow of their own: a set of independent values. */
const WITHOUT_THEORY: readonly string[] = ['base', 'ip'];

test('every folder has a file that opens with its theory of operation, of at most 40 lines', () => {
  const folders = readdirSync(join(ROOT, 'src')).filter((name) => !WITHOUT_THEORY.includes(name));
  const opening = ({ text }: SourceFile) => /^(?:#!.*\n)?\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? '';
  const theories = src.filter((file) => /theory of operation/i.test(opening(file)));
  const without = folders.filter((folder) => !theories.some(({ name }) => name.startsWith(`src/${folder}/`)));
  expect(without).toEqual([]);
  const long = theories.filter((file) => opening(file).split('\n').length > THEORY_LINES_MAX + 2);
  expect(long.map(({ name }) => name)).toEqual([]);
});
