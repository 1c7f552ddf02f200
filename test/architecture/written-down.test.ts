/** What has a name is written down: error codes and dependencies have their line in docs/. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const page = (name: string) => readFileSync(join(ROOT, name), 'utf8');

function source(): string {
  return readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => page(join('src', name)))
    .join('\n');
}

/** The code in backquotes that begins each row of the page's tables. */
function rowsOf(name: string, pattern: RegExp): string[] {
  return page(name)
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => (line.split('|')[1] ?? '').match(pattern) ?? []);
}

const sorted = (names: Iterable<string>) => [...new Set(names)].sort();

test('docs/errors.md has every error code of the source and no other', () => {
  const codes = source().match(/(?<=['"`])ERR_[A-Z0-9_]+(?=['"`])/g) ?? [];
  expect(codes.length).toBeGreaterThan(5);
  expect(sorted(rowsOf('docs/errors.md', /ERR_[A-Z0-9_]+/g))).toEqual(sorted(codes));
});

test('docs/dependencies.md has every dependency and no other', () => {
  const { dependencies, devDependencies } = JSON.parse(page('package.json'));
  const listed = rowsOf('docs/dependencies.md', /(?<=`)[^`, ]+(?=`)/g);
  expect(sorted(listed)).toEqual(sorted([...Object.keys(dependencies), ...Object.keys(devDependencies)]));
});

test('docs/dependencies.md keeps no package that the source does not load', () => {
  const { dependencies } = JSON.parse(page('package.json'));
  const loaded = source();
  // pino finds its pretty printer by name.
  const unused = Object.keys(dependencies).filter((name) => !loaded.includes(`'${name}'`));
  expect(unused).toEqual([]);
});
