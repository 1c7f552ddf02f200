/**
 * The package as others get it: what `npm pack` puts into it, and that `npm install -g` of it gives a `tortie`
 * that runs from anywhere, with no compiler on PATH and installation scripts on.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'tortie-install-'));
const prefix = join(scratch, 'prefix');

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}
let packed: Packed;

/** PATH with node, npm and a shell, and no compiler that an installation script could fall back on. */
function pathWithoutCompiler(): string {
  const bin = join(scratch, 'bin');
  mkdirSync(bin);
  for (const program of ['sh', 'env', 'dirname', 'uname', 'sed', 'readlink']) {
    symlinkSync(execFileSync('which', [program], { encoding: 'utf8' }).trim(), join(bin, program));
  }
  const npm = execFileSync('which', ['npm'], { encoding: 'utf8' }).trim();
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync(npm, join(bin, 'npm'));
  return bin;
}

beforeAll(() => {
  // dist is there already (scripts/test builds first); --ignore-scripts keeps this test from rewriting it.
  const words = ['pack', '--json', '--ignore-scripts', '--pack-destination', scratch];
  const [first] = JSON.parse(execFileSync('npm', words, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' }));
  packed = first;
  execFileSync(
    'npm',
    [
      'install',
      '-g',
      '--prefix',
      prefix,
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      join(scratch, packed.filename),
    ],
    { cwd: scratch, env: { ...process.env, PATH: pathWithoutCompiler() }, stdio: 'pipe', timeout: 200_000 },
  );
}, 240_000);

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function tortie(...words: string[]): string {
  return execFileSync(join(prefix, 'bin/tortie'), words, { cwd: '/', encoding: 'utf8', timeout: 20_000 });
}

test('the package has the program, the documentation and the examples, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  expect(paths).toContain('dist/cli/main.js');
  expect(paths).toContain('docs/architecture.md');
  expect(paths).toContain('examples/minimal-router/minimal-router.ts');
  const expected = /^(dist\/.*\.js(\.map)?|docs\/.*|examples\/.*|README\.md|LICENSE|package\.json)$/;
  expect(paths.filter((path) => !expected.test(path) || path.includes('node_modules'))).toEqual([]);
});

test('tortie runs from any directory after npm install -g', () => {
  expect(tortie('version')).toMatch(/\bv\d+\.\d+\.\d+/);
});

test('what it loads only when needed is installed too: koffi without a compiler', () => {
  const libc = join(prefix, 'lib/node_modules/tortie/dist/io/libc.js');
  const script = `import(${JSON.stringify(libc)}).then(({ libc }) => console.log(libc().library.func('int getppid()')()))`;
  const parent = execFileSync(process.execPath, ['-e', script], { cwd: dirname(scratch), encoding: 'utf8' });
  expect(Number(parent)).toBe(process.pid);
});
