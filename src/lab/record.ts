/**
 * What is known of the labs of this machine. A lab's record is written before anything of it is made, and
 * removed after everything of it is gone, so that `down` can always name what to remove.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { FailedError, UsageError } from '../base/errors.ts';
import { labPaths } from './names.ts';
import { parseTopology, type Topology } from './topology.ts';

const recordSchema = z.object({
  version: z.literal(1),
  /** The topology file's content; read again by the schema of topology files. */
  topology: z.unknown(),
  namespaces: z.array(z.string()),
  /** Subnet of the management network; null without etcd. */
  management: z.string().nullable(),
  /** File names below the state's `manifests`, in order. */
  manifests: z.array(z.string()),
  /** Manifests are applied once: a second `up` must not undo what was changed since. */
  manifestsApplied: z.boolean(),
});

export type LabRecord = Readonly<z.infer<typeof recordSchema>>;

export interface KnownLab {
  readonly record: LabRecord;
  readonly topology: Topology;
}

export function writeRecord(labsDirectory: string, lab: string, record: LabRecord): void {
  const { directory, record: file } = labPaths(labsDirectory, lab);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  writeFileSync(`${file}~`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${file}~`, file);
}

/** undefined where there is no such lab. */
export function readRecord(labsDirectory: string, lab: string): KnownLab | undefined {
  const file = labPaths(labsDirectory, lab).record;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const record = recordSchema.parse(JSON.parse(text));
    return { record, topology: parseTopology(record.topology, file) };
  } catch (cause) {
    throw new FailedError(
      'ERR_LAB_RECORD',
      `the lab's record ${file} cannot be read: ${(cause as Error).message}`,
      {
        cause,
        hint: `tortie lab down ${lab} removes what is left of the lab`,
      },
    );
  }
}

/** The lab must be there. */
export function requireLab(labsDirectory: string, lab: string): KnownLab {
  const known = readRecord(labsDirectory, lab);
  if (known) return known;
  const names = labNames(labsDirectory);
  throw new FailedError(
    'ERR_LAB_NOT_UP',
    `there is no lab ${lab}; up are: ${names.length ? names.join(', ') : 'none'}`,
    { hint: 'tortie lab up' },
  );
}

/** Names of the labs that have a state, sorted. */
export function labNames(labsDirectory: string): string[] {
  try {
    return readdirSync(labsDirectory)
      .filter((name) => !name.startsWith('.'))
      .sort();
  } catch {
    return [];
  }
}

/** The lab that a command means: the one given, `TORTIE_LAB`, the only one that is up, or `two-az`. */
export function selectLab(labsDirectory: string, given: string | undefined, env: NodeJS.ProcessEnv): string {
  const named = given ?? env.TORTIE_LAB;
  if (named) return named;
  const names = labNames(labsDirectory);
  if (names.length === 1) return names[0]!;
  if (names.length === 0 || names.includes('two-az')) return 'two-az';
  throw new UsageError(`several labs are up (${names.join(', ')}): say which with --lab NAME`);
}

/** Namespaces that the records of other labs claim, with the lab's name. */
export function namespacesOfOthers(labsDirectory: string, lab: string): ReadonlyMap<string, string> {
  const claimed = new Map<string, string>();
  for (const [other, { namespaces }] of recordsOfOthers(labsDirectory, lab))
    for (const namespace of namespaces) claimed.set(namespace, other);
  return claimed;
}

function recordsOfOthers(labsDirectory: string, lab: string): (readonly [lab: string, LabRecord])[] {
  const others = labNames(labsDirectory).filter((name) => name !== lab);
  return others.flatMap((other) => {
    try {
      const known = readRecord(labsDirectory, other);
      return known ? [[other, known.record] as const] : [];
    } catch (error) {
      if (!(error instanceof FailedError)) throw error;
      return []; // an unreadable record claims nothing
    }
  });
}

/** Subnets that the records of other labs claim for their management networks. */
export function managementOfOthers(labsDirectory: string, lab: string): string[] {
  return recordsOfOthers(labsDirectory, lab).flatMap(([, { management }]) => management ?? []);
}

/** Removes the lab's state, and the directories above it as far as they are empty. */
export function removeState(labsDirectory: string, lab: string): void {
  rmSync(labPaths(labsDirectory, lab).directory, { recursive: true, force: true });
}

/** Removes directories that a lab may have been the first to need, where nothing else is in them. */
export function removeIfEmpty(directory: string, levels: number): void {
  let path = directory;
  for (let level = 0; level < levels; level++) {
    try {
      rmdirSync(path);
    } catch {
      return; // in use, or not there
    }
    path = dirname(path);
  }
}
