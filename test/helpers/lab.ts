/** A lab for one test file: real commands of the built package, a name nobody else has, gone at the end. */
import { type SpawnOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { VerifyPair, VerifyResult } from '../../src/lab/verify.ts';

export const MAIN = join(import.meta.dirname, '../../dist/cli/main.js');
export const LABS = '/run/tortie/labs';

/** Why a lab cannot run here; undefined where it can. */
export const labUnavailable: string | undefined =
  process.geteuid?.() !== 0
    ? 'a lab needs root'
    : !existsSync('/dev/net/tun')
      ? 'there is no /dev/net/tun'
      : !existsSync(MAIN)
        ? 'dist is not built'
        : undefined;

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that hangs must not hang the tests; who knows of a longer one says so. */
const DEADLINE_MS = 90_000;

export function runCommand(
  program: string,
  args: readonly string[],
  { input = '', ...options }: SpawnOptions & { input?: string } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { timeout: DEADLINE_MS, ...options, stdio: 'pipe' });
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({ status: code ?? -1, stdout, stderr: stderr + (signal ?? '') }),
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

export class TestLab {
  readonly name: string;
  readonly env: NodeJS.ProcessEnv;

  constructor(purpose: string) {
    this.name = `t${process.pid}-${purpose}`;
    this.env = {
      ...process.env,
      TORTIE_LAB: this.name,
      TORTIE_DATASTORE: `file://${LABS}/${this.name}/datastore`,
    };
  }

  /** `tortie WORDS…`, with the lab's datastore and the lab as the default. */
  run(words: readonly string[], input = ''): Promise<Ran> {
    return runCommand(process.execPath, [MAIN, ...words], { env: this.env, input });
  }

  /** The same, with its input and output in the caller's hands; it ends with the test file at the latest. */
  start(words: readonly string[]): { stdin: Writable; stdout: Readable; ended: Promise<number | null> } {
    const child = spawn(process.execPath, [MAIN, ...words], {
      env: this.env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    process.once('exit', () => child.kill());
    const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
    return { stdin: child.stdin, stdout: child.stdout, ended };
  }

  /** As \`run\`, and it must succeed. */
  async succeed(words: readonly string[], input = ''): Promise<string> {
    const ran = await this.run(words, input);
    if (ran.status !== 0)
      throw new Error(`tortie ${words.join(' ')} ended with ${ran.status}: ${ran.stderr}${ran.stdout}`);
    return ran.stdout;
  }

  async up(file?: string): Promise<void> {
    await this.succeed(['lab', 'up', ...(file ? [file] : []), '--name', this.name]);
  }

  async down(): Promise<void> {
    await this.succeed(['lab', 'down', this.name]);
  }

  namespace(host: string): string {
    return `tortie-${this.name}-${host}`;
  }

  /** Runs a program inside a host of the lab. */
  inside(host: string, words: readonly string[], input = ''): Promise<Ran> {
    return this.run(['lab', 'exec', host, '--', ...words], input);
  }

  async verify(): Promise<VerifyResult & { status: number; forms: Record<string, string> }> {
    const ran = await this.run(['lab', 'verify', '--json']);
    if (!ran.stdout) throw new Error(`lab verify said nothing: ${ran.stderr}`);
    const result = JSON.parse(ran.stdout) as VerifyResult;
    return { ...result, status: ran.status, forms: formsOf(result.pairs) };
  }
}

/** `w1>w3` -> `encapsulated`, or `encapsulated (expected direct)`. */
export function formsOf(pairs: readonly VerifyPair[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(({ from, to, expected, observed }) => [
      `${from}>${to}`,
      expected === observed ? observed : `${observed} (expected ${expected})`,
    ]),
  );
}
