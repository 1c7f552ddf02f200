/** Commands start quickly because they load little: what each may load is named here, and time is held loosely. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const PROGRAM = join(import.meta.dirname, '../../../dist/cli/main.js');
let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-start-up-'));
});

afterAll(() => {
  rmSync(root, { recursive: true, force: true });
});

function run(argv: readonly string[], options: readonly string[] = []) {
  const env = { ...process.env, NODE_DEBUG: '', TORTIE_DATASTORE: `file://${root}/store` };
  return spawnSync(process.execPath, [...options, ...argv], { encoding: 'utf8', timeout: 60_000, env });
}

const PACKAGE = /node_modules\/((?:@[^/]+\/)?[^/]+(?:\/v\d)?)/;

function sourcesOf(map: string): string[] {
  return (JSON.parse(readFileSync(map, 'utf8')) as { sources: string[] }).sources;
}

/** Packages that a command loads, of zod which of its interfaces: a hook in the loader names files, their maps what is in them. */
function packagesOf(argv: readonly string[]): string[] {
  const hook = join(root, 'hook.mjs');
  writeFileSync(
    hook,
    `import { register } from 'node:module';
const code = \`import { writeSync } from 'node:fs';
export async function load(url, context, next) {
  if (url.startsWith('file:')) writeSync(2, 'loaded ' + url + '\\\\n');
  return next(url, context);
}\`;
register('data:text/javascript,' + encodeURIComponent(code));`,
  );
  const { stderr, status } = run([PROGRAM, ...argv], ['--import', hook]);
  expect(status, stderr).toBe(0);
  const files = [...stderr.matchAll(/^loaded (\S+)$/gm)].map((match) => fileURLToPath(match[1]!));
  expect(files).toContain(PROGRAM);
  const parts = files.flatMap((file) => [
    file,
    ...(existsSync(`${file}.map`) ? sourcesOf(`${file}.map`) : []),
  ]);
  return [...new Set(parts.flatMap((path) => PACKAGE.exec(path)?.[1] ?? []))].sort();
}

test('version and help load no package', () => {
  expect(packagesOf(['version'])).toEqual([]);
  expect(packagesOf(['--help'])).toEqual([]);
});

test('get on a directory loads the command line and the schemas, nothing else', () => {
  expect(packagesOf(['get', 'nodes', '-o', 'wide'])).toEqual(['commander', 'zod/v3']);
});

test('a command takes not much longer than Node alone', { timeout: 120_000 }, () => {
  const milliseconds = (argv: readonly string[]) => {
    const times = Array.from({ length: 5 }, () => {
      const start = performance.now();
      expect(run(argv).status).toBe(0);
      return performance.now() - start;
    });
    return Math.min(...times);
  };
  const node = milliseconds(['-e', '0']);
  // On a quiet machine 1.1 and 2 times; the bounds catch a heavy import, not a busy neighbour.
  expect(milliseconds([PROGRAM, 'version']) / node).toBeLessThan(2.5);
  expect(milliseconds([PROGRAM, 'get', 'nodes']) / node).toBeLessThan(5);
});
