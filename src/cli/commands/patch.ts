/** `tortie patch KIND NAME --patch JSON`: changes part of a resource; unknown fields of the object stay. */
import { InvalidError, TortieError, UsageError } from '../../base/errors.ts';
import { type PatchType, patched } from '../../model/patch.ts';
import { rewriteStored } from '../../model/rewrite.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { isCrossSubnet, warnOfNodesWithoutSubnet } from '../cross-subnet-warning.ts';
import { kindArgument, namedOnCommandLine } from '../resource-arguments.ts';
import { addResourceOptions, type ResourceOptions, withClient } from '../resource-options.ts';
import { rewriteWithRetries } from '../rewrite-resource.ts';

interface PatchOptions extends ResourceOptions {
  readonly patch: string;
  readonly type: string;
}

const PATCH_TYPES: readonly string[] = ['strategic', 'merge', 'json'] satisfies PatchType[];

export function run(argv: readonly string[]): Promise<number> {
  const command = newCommand('patch', 'Change part of a resource.');
  command.argument('<kind>').argument('<name>');
  command.requiredOption('-p, --patch <json>', 'the fields to change, as JSON or YAML');
  command.option('-t, --type <type>', 'strategic and merge: RFC 7386; json: RFC 6902', 'strategic');
  addResourceOptions(command);
  command.addHelpText(
    'after',
    `\nExample:\n  $ tortie patch node node1 --patch '{"spec": {"bgp": {"ipv4Address": "10.0.1.11/24"}}}'`,
  );
  command.action(handler(patch));
  return runCommand(command, argv);
}

async function patch(kindText: string, name: string, options: PatchOptions): Promise<void> {
  if (!PATCH_TYPES.includes(options.type))
    throw new UsageError(`--type: expected ${PATCH_TYPES.join(', ')}, got '${options.type}'`);
  const kind = kindArgument(kindText, 'failed to execute command');
  const change = await parsedPatch(options.patch);
  await withClient(options, async (client) => {
    const [target] = namedOnCommandLine(kind, [name], 'v3', options);
    const id = await client.resolve(target!);
    try {
      await rewriteWithRetries(client, id, (entry) => ({
        text: rewriteStored(entry.value, (object) => patched(object, change, options.type as PatchType)),
      }));
      if (kind === 'IPPool' && isCrossSubnet(await client.get({ ...id, kind })))
        await warnOfNodesWithoutSubnet(client);
    } catch (error) {
      if (!(error instanceof TortieError && /^ERR_(?:RESOURCE|PATCH)/.test(error.code))) throw error;
      throw new TortieError(
        error.code,
        error.exitCode,
        `Failed to patch '${kind}' resource: ${error.message}`,
      );
    }
  });
  process.stdout.write(`Successfully patched 1 '${kind}' resource\n`);
}

async function parsedPatch(text: string): Promise<unknown> {
  try {
    return JSON.parse(text);
  } catch {
    const { parse } = await import('yaml');
    try {
      return parse(text, { maxAliasCount: 0 });
    } catch (error) {
      throw new InvalidError('ERR_PATCH', `--patch: expected JSON or YAML: ${(error as Error).message}`);
    }
  }
}
