/** `tortie label KIND NAME KEY=VALUE` and `… KEY --remove`: unknown fields of the object stay. */
import { FailedError, UsageError } from '../../base/errors.ts';
import { isPlainObject, rewriteStored } from '../../model/rewrite.ts';
import type { Entry } from '../../store/datastore.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { kindArgument, namedOnCommandLine } from '../resource-arguments.ts';
import { hasCode } from '../resource-client.ts';
import { addResourceOptions, type ResourceOptions, withClient } from '../resource-options.ts';
import { rewriteWithRetries } from '../rewrite-resource.ts';

interface LabelOptions extends ResourceOptions {
  readonly overwrite?: boolean;
  readonly remove?: boolean;
}

export function run(argv: readonly string[]): Promise<number> {
  const command = newCommand('label', 'Set or remove one label of a resource.');
  command.argument('<kind>').argument('<name>').argument('<label>', 'KEY=VALUE, or KEY with --remove');
  command.option('--overwrite', 'set the label although it has another value');
  command.option('--remove', 'remove the label');
  addResourceOptions(command);
  command.addHelpText(
    'after',
    '\nExamples:\n  $ tortie label nodes node1 zone=az-a\n  $ tortie label nodes node1 zone --remove',
  );
  command.action(handler(label));
  return runCommand(command, argv);
}

/** What a change does to the labels, and how success is told. */
interface LabelChange {
  readonly value: string | undefined;
  readonly said: string;
}

async function label(kindText: string, name: string, text: string, options: LabelOptions): Promise<void> {
  if (options.remove && options.overwrite)
    throw new UsageError('tortie label: expected --overwrite or --remove, got both');
  const kind = kindArgument(kindText, 'failed to execute command');
  const [key = '', value, ...rest] = text.split('=');
  if (!key || rest.length || (value === undefined) !== (options.remove ?? false))
    throw new UsageError(`invalid label ${text}`, { hint: 'Expected KEY=VALUE, or KEY with --remove.' });
  const who = `${kindText} ${name}`;
  await withClient(options, async (client) => {
    const [target] = namedOnCommandLine(kind, [name], 'v3', options);
    const id = await client.resolve(target!);
    try {
      const { said } = await rewriteWithRetries(client, id, (entry) => {
        const change = labelChange(labelsOf(entry), who, key, value, options.overwrite ?? false);
        return { ...change, text: withLabel(entry.value, key, change.value) };
      });
      process.stdout.write(`Successfully ${said} ${who}\n`);
    } catch (error) {
      if (!hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) throw error;
      throw new FailedError('ERR_RESOURCE_NOT_FOUND', `${who} not found`);
    }
  });
}

function labelsOf(entry: Entry): Readonly<Record<string, unknown>> {
  const { metadata } = JSON.parse(entry.value) as {
    metadata?: { labels?: Readonly<Record<string, unknown>> };
  };
  return metadata?.labels ?? {};
}

function labelChange(
  labels: Readonly<Record<string, unknown>>,
  who: string,
  key: string,
  value: string | undefined,
  overwrite: boolean,
): LabelChange {
  const present = Object.hasOwn(labels, key);
  if (value === undefined) {
    if (!present)
      throw new FailedError('ERR_LABEL_ABSENT', `cannot remove label of ${who}, key ${key} does not exist`);
    return { value, said: `removed label ${key} from` };
  }
  if (!present) return { value, said: `set label ${key} on` };
  if (!overwrite && labels[key] !== value)
    throw new FailedError(
      'ERR_LABEL_PRESENT',
      `failed to update label of ${who}, key ${key} is already present. please use '--overwrite' to set a new value`,
    );
  return { value, said: `updated label ${key} on` };
}

function withLabel(text: string, key: string, value: string | undefined): string {
  return rewriteStored(text, (object) => {
    const metadata = isPlainObject(object.metadata) ? object.metadata : {};
    const { [key]: _, ...others } = isPlainObject(metadata.labels) ? metadata.labels : {};
    const labels = value === undefined ? others : { ...others, [key]: value };
    return { ...object, metadata: { ...metadata, labels } };
  });
}
