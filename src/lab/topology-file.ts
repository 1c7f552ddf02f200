/** Reads topology files; without one, the topology `two-az` that comes with the package. */

import { readFileSync } from 'node:fs';
import { basename, dirname, resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { InvalidError, UsageError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { parseTopology, type Topology } from './topology.ts';

/** The built-in topology is the example of that name: one truth, and it can be read. */
const BUILT_IN = fileURLToPath(installedFile('examples/two-az.yaml'));

export interface LoadedTopology {
  readonly topology: Topology;
  /** As the file has it: what the lab's record keeps. */
  readonly value: unknown;
  readonly manifests: readonly { readonly name: string; readonly text: string }[];
}

/** `name`, where given, takes the place of the file's. */
export function loadTopology(file: string | undefined, name: string | undefined): LoadedTopology {
  const path = file ?? BUILT_IN;
  const value = rename(parseYaml(readText(path, 'topology'), path), name);
  const topology = parseTopology(value, path);
  const manifests = topology.manifests.map((manifest) => ({
    name: basename(manifest),
    text: readText(resolvePath(dirname(path), manifest), 'manifest'),
  }));
  return { topology, value, manifests };
}

function rename(value: unknown, name: string | undefined): unknown {
  return name === undefined || typeof value !== 'object' || value === null ? value : { ...value, name };
}

function parseYaml(text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new InvalidError('ERR_LAB_TOPOLOGY', `${path} is not YAML: ${(cause as Error).message}`, { cause });
  }
}

function readText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`cannot read the ${what} ${path}: ${(cause as Error).message}`, { cause });
  }
}
