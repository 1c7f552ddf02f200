#!/usr/bin/env node
/**
 * The command `tortie`. Theory of operation: this file knows only the names of the commands and where each
 * lives; a command's module, and whatever it imports, is loaded when it is used, so that `tortie version`
 * and `tortie get` start quickly. stdout is the result, stderr the talk; exit codes are DESIGN §5's.
 */
import { TortieError } from '../base/errors.ts';

/** A command module exports `run(argv)`: argv are the words after the command's name; it gives the exit code. */
export interface CommandModule {
  run(argv: readonly string[]): Promise<number>;
}

/** One entry a line of `tortie --help`. */
export const COMMANDS: Readonly<Record<string, { summary: string; load: () => Promise<CommandModule> }>> = {
  version: { summary: 'Print the version', load: () => import('./commands/version.ts') },
};

async function main(argv: readonly string[]): Promise<number> {
  const [name = '', ...rest] = argv;
  const command = COMMANDS[name];
  if (!command) {
    process.stderr.write(`Unknown command: "${name}"\n`);
    return 2;
  }
  const module = await command.load();
  return module.run(rest);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof TortieError)) throw error;
  process.stderr.write(`${error.message}\n${error.hint ? `${error.hint}\n` : ''}`);
  process.exitCode = error.exitCode;
}
