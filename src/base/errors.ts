/**
 * Errors that a person reads. Each says what failed, what was expected, what was got and what to do
 * next; `code` is stable and is what programs match on (docs/errors.md has a line for each).
 * Packets never throw: what goes wrong with one is a drop reason and a counter, see dataplane/.
 */

/** Exit codes of the command line (DESIGN: 0 ok, 1 failed, 2 usage, 3 invalid resource, 4 unavailable). */
export type ExitCode = 1 | 2 | 3 | 4;

export interface ErrorDetails {
  /** What to do next: a sentence, or the command that mends it. */
  readonly hint?: string;
  readonly cause?: unknown;
}

export class TortieError extends Error {
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(code: string, exitCode: ExitCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.exitCode = exitCode;
    this.hint = details.hint;
  }
}

/** The command line was not understood. */
export class UsageError extends TortieError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_USAGE', 2, message, details);
  }
}

/** A resource, manifest or configuration is not acceptable; the message names every problem with its path. */
export class InvalidError extends TortieError {
  constructor(code: string, message: string, details?: ErrorDetails) {
    super(code, 3, message, details);
  }
}

/** A privilege, device or program is missing or is in somebody else's hands; the hint is the line that mends it. */
export class UnavailableError extends TortieError {
  constructor(code: string, message: string, details?: ErrorDetails) {
    super(code, 4, message, details);
  }
}

/** An operation failed for a reason that is neither usage, nor data, nor privilege. */
export class FailedError extends TortieError {
  constructor(code: string, message: string, details?: ErrorDetails) {
    super(code, 1, message, details);
  }
}

/** For the `default` of an exhaustive switch: compiles only while every case is handled. */
export function assertNever(value: never, what: string): never {
  throw new Error(`bug: unhandled ${what}: ${JSON.stringify(value)}`);
}
