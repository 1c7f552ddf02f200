import { runWrite } from '../write-manifests.ts';

/** `tortie apply`. */
export function run(argv: readonly string[]): Promise<number> {
  return runWrite('apply', argv);
}
