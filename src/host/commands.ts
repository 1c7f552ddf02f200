/** Runs `ip`, `nft` and what else the host and the lab need as child processes: with a deadline, with what they said in the error. */
import { spawn } from 'node:child_process';
import { FailedError, UnavailableError } from '../base/errors.ts';

/** A loaded machine may take a while for 20,000 routes; a command that takes this long is stuck. */
const DEADLINE_MS = 30_000;

/** Where the programs are that we run, for people who miss them. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  nsenter: 'util-linux',
  etcd: 'etcd-server',
};

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class HostCommandError extends FailedError {
  readonly result: CommandResult;
  constructor(words: readonly string[], result: CommandResult) {
    const said = result.stderr.trim() || result.stdout.trim() || 'it said nothing';
    super('ERR_HOST_COMMAND', `\`${words.join(' ')}\` failed with status ${result.status}: ${said}`);
    this.result = result;
  }
}

export interface CommandOptions {
  /** In place of ours. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly deadlineMs?: number | undefined;
}

/** Runs a program and gives what it did, whatever its status. */
export function run(
  words: readonly string[],
  stdin = '',
  { env = process.env, deadlineMs = DEADLINE_MS }: CommandOptions = {},
): Promise<CommandResult> {
  const [program = '', ...args] = words;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    // Not spawn's own `timeout`: that keeps the process alive for all of it where the program is missing.
    const deadline = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(deadline);
      reject(error.code === 'ENOENT' ? missing(program) : error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(deadline);
      if (signal)
        reject(new FailedError('ERR_HOST_COMMAND', `\`${words.join(' ')}\` was ended by ${signal}`));
      else resolve({ status: code ?? 1, stdout, stderr });
    });
    // A program that ends without reading its input is judged by its status, not by the broken pipe.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}

/** Runs a program that must succeed; gives its output. */
export async function output(
  words: readonly string[],
  stdin?: string,
  options?: CommandOptions,
): Promise<string> {
  const result = await run(words, stdin, options);
  if (result.status !== 0) throw new HostCommandError(words, result);
  return result.stdout;
}

function missing(program: string): UnavailableError {
  return new UnavailableError('ERR_PROGRAM_MISSING', `the program \`${program}\` is not installed`, {
    hint: `apt-get install ${PACKAGE_OF[program] ?? program}`,
  });
}

/** Fails with exit code 4 where a program that we need is not there. */
export async function requirePrograms(): Promise<void> {
  await Promise.all([output(['ip', '-V']), output(['nft', '--version'])]);
}
