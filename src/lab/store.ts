/** Where a lab keeps its resources. */
import { pathToFileURL } from 'node:url';
import type { LabPaths } from './names.ts';

/** The datastore's URL, as `--datastore` and TORTIE_DATASTORE take it. */
export function labDatastore(paths: LabPaths): string {
  return pathToFileURL(paths.datastore).href;
}
