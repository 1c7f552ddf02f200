/** Runs the programs that the lab is made with, told to whoever wants to hear of it (`--verbose`). */
import { type CommandOptions, type CommandResult, output, run } from '../host/commands.ts';

export interface ProgramOptions extends CommandOptions {
  readonly input?: string | undefined;
  /** Called with the command line before it runs. */
  readonly echo?: ((line: string) => void) | undefined;
}

/** Runs to the end whatever the status. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<CommandResult> {
  options.echo?.([program, ...args].join(' '));
  return run([program, ...args], options.input, options);
}

/** Gives stdout. @throws HostCommandError where the status is not 0 */
export async function runSuccessfully(
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<string> {
  options.echo?.([program, ...args].join(' '));
  return output([program, ...args], options.input, options);
}
