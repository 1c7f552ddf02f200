/** Every relative link of a page leads to a file, and every `src/…`, `test/…` or `docs/…` that it names is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

const pages = ['.', 'docs', 'docs/adr', 'examples', 'examples/minimal-router'].flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
);

function missingFrom(page: string): string[] {
  const text = readFileSync(join(ROOT, page), 'utf8').replace(/^```[\s\S]*?^```/gm, '');
  const links = [...text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)]
    .map((match) => match[1] ?? '')
    .filter((link) => !/^[a-z]+:/.test(link))
    .filter((link) => !existsSync(join(ROOT, dirname(page), link)));
  const named = [...text.matchAll(/`((?:src|test|docs|examples|scripts)\/[\w./-]+)`/g)]
    .map((match) => match[1] ?? '')
    .filter((path) => !existsSync(join(ROOT, path)));
  return [...links, ...named];
}

test.each(pages)('%s names only what is there', (page) => {
  expect(missingFrom(page)).toEqual([]);
});
