/**
 * What the commands share of commander: one place decides where help and misuse go. A command module builds a
 * `Command`, gives each action through `handler`, and ends with `return runCommand(command, argv)`:
 *
 *     const command = newCommand('workload', 'Attach workloads to nodes');
 *     command.command('attach').argument('<name>').option('--ip <ip>', 'address').action(handler(attach));
 *     return runCommand(command, argv);
 *
 * Help goes to stdout and exits 0; misuse is a UsageError (stderr, exit 2); what a handler returns is the exit code.
 */
import { Command, CommanderError } from 'commander';
import { UsageError } from '../base/errors.ts';

const exitCodes = new WeakMap<Command, number>();

/** `name` as it stands after `tortie`. */
export function newCommand(name: string, summary: string): Command {
  return new Command(`tortie ${name}`).description(summary);
}

/** A commander action whose result is the exit code; nothing means 0. */
export function handler<Arguments extends unknown[]>(
  run: (...args: Arguments) => Promise<number | undefined> | Promise<void>,
): (...args: Arguments) => Promise<void> {
  return async (...args) => {
    const exitCode = await run(...args);
    const command = args.at(-1);
    if (command instanceof Command) exitCodes.set(rootOf(command), exitCode ?? 0);
  };
}

function rootOf(command: Command): Command {
  return command.parent ? rootOf(command.parent) : command;
}

/** Parses `argv` (the words after the command's name) and runs the action that they name. */
export async function runCommand(command: Command, argv: readonly string[]): Promise<number> {
  prepare(command);
  try {
    await command.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') return 0;
    throw new UsageError(
      error.code === 'commander.help'
        ? `${command.name()}: expected a subcommand`
        : error.message.replace(/^error: /, ''),
      { hint: `See '${command.name()} --help'.` },
    );
  }
  return exitCodes.get(command) ?? 0;
}

/** Commander's own exits and error output would go around ours. */
function prepare(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => {} });
  command.configureHelp({ showGlobalOptions: true });
  for (const subcommand of command.commands) prepare(subcommand);
}
