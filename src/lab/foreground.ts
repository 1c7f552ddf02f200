/** Runs a command with the terminal and the streams of ours, as a shell would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';

/** Meant for us alone, so they are passed on. */
const PASSED_SIGNALS = ['SIGTERM', 'SIGHUP'] as const;
/** From a terminal: the command has had them too, and we outlive it to tell its status. */
const AWAITED_SIGNALS = ['SIGINT', 'SIGQUIT'] as const;

/** @returns the command's status; 128 and the signal's number where one ended it, as a shell has it */
export async function runInForeground(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  onStart: (child: ChildProcess) => void = () => {},
): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit', env });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  const wait = () => {};
  for (const signal of PASSED_SIGNALS) process.on(signal, pass);
  for (const signal of AWAITED_SIGNALS) process.on(signal, wait);
  try {
    return await new Promise((resolve, reject) => {
      child.on('spawn', () => onStart(child));
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ? 128 + constants.signals[signal] : (code ?? 1)));
    });
  } finally {
    for (const signal of PASSED_SIGNALS) process.off(signal, pass);
    for (const signal of AWAITED_SIGNALS) process.off(signal, wait);
  }
}
