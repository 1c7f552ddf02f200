/**
 * `create`, `apply` and `replace` do the same but for one call: read every document, write one after the other, go on
 * after those that fail, and tell the sum in Calico's words (test/golden: documents).
 */
import { InvalidError, TortieError, UsageError } from '../base/errors.ts';
import type { ManifestDocument } from '../model/manifest.ts';
import { refusalText } from '../model/problem.ts';
import type { IPPool, Resource } from '../model/resources.ts';
import { handler, newCommand, runCommand } from './command-line.ts';
import { isCrossSubnet, warnOfNodesWithoutSubnet } from './cross-subnet-warning.ts';
import { readManifests } from './manifest-files.ts';
import { reportNothing, reportReplaced, reportTally } from './output/tally.ts';
import { hasCode, type ResourceClient } from './resource-client.ts';
import {
  addFileOptions,
  addResourceOptions,
  type FileOptions,
  type ResourceOptions,
  withClient,
} from './resource-options.ts';

type Verb = 'create' | 'apply' | 'replace';

const SUMMARY: Readonly<Record<Verb, string>> = {
  create: 'Create resources that are not there yet.',
  apply: 'Create resources, or put them in place of those that are there.',
  replace: 'Put resources in place of those that are there.',
};

interface WriteOptions extends ResourceOptions, FileOptions {
  readonly skipExists?: boolean;
  readonly dryRun?: boolean;
}

/** The whole of a command that writes manifests. */
export function runWrite(verb: Verb, argv: readonly string[]): Promise<number> {
  const command = newCommand(verb, SUMMARY[verb]);
  addFileOptions(command);
  if (verb === 'create')
    command.option('--skip-exists', 'leave what is there as it is, and count it as created');
  command.option('--dry-run', 'check everything, also against what is stored, but write nothing');
  addResourceOptions(command);
  command.addHelpText('after', `\nExample:\n  $ tortie ${verb} -f pool.yaml`);
  command.action(handler((options: WriteOptions) => writeManifests(verb, options)));
  return runCommand(command, argv);
}

async function writeManifests(verb: Verb, options: WriteOptions): Promise<number> {
  const { filename } = options;
  if (filename === undefined)
    throw new UsageError(`tortie ${verb}: expected -f FILE`, { hint: `See 'tortie ${verb} --help'.` });
  const documents = await readManifests(filename, options.recursive ?? false, 'failed to execute command');
  if (!documents.length) return reportNothing(filename, options.skipEmpty ?? false);
  return withClient(options, async (client) => {
    if (verb !== 'replace' && !options.dryRun) await client.initialize();
    const errors: TortieError[] = [];
    for (const document of documents) {
      try {
        await writeOne(verb, client, document, options);
      } catch (error) {
        if (!isOfOneDocument(error)) throw error;
        errors.push(error);
      }
    }
    const tally = {
      spellings: documents.map(({ spelling }) => spelling),
      errors,
      dryRun: options.dryRun ?? false,
    };
    if (documents.some(isCrossSubnetPool)) await warnOfNodesWithoutSubnet(client);
    return verb === 'replace' ? reportReplaced(tally) : reportTally(verb, tally);
  });
}

function isCrossSubnetPool({ decoded }: ManifestDocument): boolean {
  return decoded.ok && decoded.resource.kind === 'IPPool' && isCrossSubnet(decoded.resource as IPPool);
}

/** Errors after which the next document may still succeed; a datastore that is away is none. */
function isOfOneDocument(error: unknown): error is TortieError {
  return error instanceof TortieError && /^ERR_(?:RESOURCE|STORED|STORE_KEY)/.test(error.code);
}

async function writeOne(
  verb: Verb,
  client: ResourceClient,
  document: ManifestDocument,
  { namespace, skipExists = false, dryRun = false }: WriteOptions,
): Promise<void> {
  const { decoded } = document;
  if (!decoded.ok) throw new InvalidError('ERR_RESOURCE_REFUSED', refusalText(decoded.problems));
  const resource = await asStored(client, document, inNamespace(decoded.resource, namespace));
  try {
    await client[verb](resource, dryRun);
  } catch (error) {
    if (!(verb === 'create' && skipExists && hasCode(error, 'ERR_RESOURCE_EXISTS'))) throw error;
  }
}

function inNamespace(resource: Resource, namespace: string | undefined): Resource {
  if (resource.kind !== 'WorkloadEndpoint' || resource.metadata.namespace !== undefined) return resource;
  return { ...resource, metadata: { ...resource.metadata, namespace: namespace ?? 'default' } };
}

/**
 * A v1 pool is the pool with that CIDR, whatever its v3 name. Its block size is not v1's to say and may not change,
 * so the stored one stays.
 */
async function asStored(
  client: ResourceClient,
  document: ManifestDocument,
  resource: Resource,
): Promise<Resource> {
  if (document.dialect !== 'v1' || resource.kind !== 'IPPool') return resource;
  const { metadata, spec } = resource as IPPool;
  const stored = await client.poolOfCidr(spec.cidr);
  if (!stored) return resource;
  return {
    ...resource,
    metadata: { ...metadata, name: stored.metadata.name },
    spec: { ...spec, blockSize: stored.spec.blockSize },
  };
}
