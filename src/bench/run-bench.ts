/** What the benches have in common as commands. */
import { TortieError, UsageError } from '../base/errors.ts';
import { wholeNumber } from '../base/whole-number.ts';

/** Misuse and failures that are foreseen are one line and an exit code; all else is a bug, with its stack. */
export async function runBench(bench: () => Promise<void> | void): Promise<void> {
  try {
    await bench();
  } catch (error) {
    if (!(error instanceof TortieError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = error.exitCode;
  }
}

/** How often something is measured: as `word` says, else `otherwise`. */
export function roundsAsked(word: string | undefined, otherwise: number): number {
  return word === undefined ? otherwise : wholeNumber('rounds', word, 1, 9999);
}

/** All sizes, or the one that `word` names by its number of `things`. */
export function sizesAsked<Size>(
  word: string | undefined,
  sizes: readonly Size[],
  things: string,
  numberOf: (size: Size) => number,
): readonly Size[] {
  const asked = sizes.filter((size) => word === undefined || word === String(numberOf(size)));
  if (asked.length === 0)
    throw new UsageError(`scale: expected one of ${sizes.map(numberOf).join(', ')} ${things}; got '${word}'`);
  return asked;
}
