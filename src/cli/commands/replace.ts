import { runWrite } from '../write-manifests.ts';

/** `tortie replace`. */
export function run(argv: readonly string[]): Promise<number> {
  return runWrite('replace', argv);
}
