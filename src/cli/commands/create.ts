import { runWrite } from '../write-manifests.ts';

/** `tortie create`. */
export function run(argv: readonly string[]): Promise<number> {
  return runWrite('create', argv);
}
