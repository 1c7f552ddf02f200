/** Runs the programs that the lab is made with: `ip` and `nft`, with a deadline and their words in the error. */
import { spawn } from 'node:child_process';
import { FailedError, UnavailableError } from '../base/errors.ts';

/** `ip` and `nft` answer in milliseconds; on a machine under load, in seconds. */
const DEADLINE_MS = 30_000;

export interface ProgramOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly deadlineMs?: number;
  /** Called with the command line before it runs: what `--verbose` prints. */
  readonly echo?: ((line: string) => void) | undefined;
}

export interface ProgramResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Which Debian package has a program that is not there. */
const PACKAGE: Readonly<Record<string, string>> = { ip: 'iproute2', nft: 'nftables', etcd: 'etcd-server' };

/** Runs to the end whatever the status. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  options.echo?.([program, ...args].join(' '));
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: options.env ?? process.env, stdio: 'pipe' });
    let stdout = '';
    let stderr = '';
    const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new FailedError('ERR_LAB_COMMAND', `${program} ${args.join(' ')}: no end within ${deadlineMs} ms`),
      );
    }, deadlineMs);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(error.code === 'ENOENT' ? missing(program) : error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ status: code ?? -1, stdout, stderr });
    });
    // A program that ends without reading its input breaks the pipe; its status tells more than that would.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}

/** Gives stdout. @throws FailedError where the status is not 0 */
export async function runSuccessfully(
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<string> {
  const { status, stdout, stderr } = await runProgram(program, args, options);
  if (status === 0) return stdout;
  const said = stderr.trim() || stdout.trim() || 'nothing';
  throw new FailedError(
    'ERR_LAB_COMMAND',
    `${program} ${args.join(' ')} ended with status ${status}, expected 0; it said: ${said}`,
  );
}

function missing(program: string): UnavailableError {
  return new UnavailableError('ERR_PROGRAM_MISSING', `the program ${program} is not installed`, {
    hint: `apt-get install ${PACKAGE[program] ?? program}`,
  });
}
