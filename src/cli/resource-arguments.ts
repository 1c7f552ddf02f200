/** `KIND NAME…` on the command line, or the resources that manifests name: the same list of identities for both. */
import type { Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { KINDS, kindOfAlias } from '../model/kind-names.ts';
import type { Kind } from '../model/resources.ts';
import { KIND_OF_V1, v1KindOf } from '../model/v1.ts';
import { readManifests } from './manifest-files.ts';
import type { Dialect } from './output/columns.ts';
import type { ResourceId } from './resource-client.ts';
import type { FileOptions, ResourceOptions } from './resource-options.ts';

export interface NamedResource extends ResourceId {
  /** The kind as messages name it. */
  readonly spelling: string;
  /** The revision that the manifest insists on. */
  readonly resourceVersion: string | undefined;
}

/** What `get` and `delete` are about, unless `-f` says it. */
export function addTargetArguments(command: Command): Command {
  return command
    .argument('[kind]', 'ippool, node, wep, …')
    .argument('[names...]', 'a pool may be named by its CIDR');
}

/** @throws UsageError where both or neither are given; `words` is what the command expects in place of `-f` */
export function requireKindOrFile(
  verb: string,
  words: string,
  kind: string | undefined,
  { filename }: FileOptions,
): void {
  if ((kind === undefined) !== (filename === undefined)) return;
  throw new UsageError(`tortie ${verb}: expected ${words} or -f FILE`, {
    hint: `See 'tortie ${verb} --help'.`,
  });
}

/** @throws UsageError for a kind that we do not have */
export function kindArgument(text: string, context: string): Kind {
  const kind = kindOfAlias(text);
  if (kind) return kind;
  throw new UsageError(`${context}: resource type '${text}' is not supported`, {
    hint: `Expected one of ${KINDS.join(', ')}; any case, plurals and Calico's short forms too.`,
  });
}

export function spellingOf(kind: Kind, dialect: Dialect): string {
  return (dialect === 'v1' ? v1KindOf(kind) : undefined) ?? kind;
}

export function namedOnCommandLine(
  kind: Kind,
  names: readonly string[],
  dialect: Dialect,
  { namespace }: ResourceOptions,
): NamedResource[] {
  return names.map((name) => ({
    kind,
    name,
    namespace: kind === 'WorkloadEndpoint' ? (namespace ?? 'default') : undefined,
    spelling: spellingOf(kind, dialect),
    resourceVersion: undefined,
  }));
}

/** What the manifests name; their specs may be anything readable. */
export async function namedInFiles(
  { filename = '', recursive = false }: FileOptions,
  { namespace }: ResourceOptions,
): Promise<NamedResource[]> {
  const documents = await readManifests(filename, recursive, 'failed to execute command');
  return documents.map(({ kind, name, namespace: own, spelling, dialect, decoded }) => {
    const pool = dialect === 'v1' && decoded.ok && decoded.resource.kind === KIND_OF_V1.ipPool;
    return {
      kind,
      name: pool ? (decoded.resource.spec as { cidr: string }).cidr : name,
      namespace: kind === 'WorkloadEndpoint' ? (own ?? namespace ?? 'default') : undefined,
      spelling,
      resourceVersion: decoded.ok ? decoded.resource.metadata.resourceVersion : undefined,
    };
  });
}
