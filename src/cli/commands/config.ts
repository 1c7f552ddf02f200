/**
 * `tortie config set|get|unset`: calicoctl v1's commands for what concerns all nodes, on v3's resources: asNumber
 * and nodeToNodeMesh are BGPConfiguration's, ipip and raw Felix settings FelixConfiguration's, logLevel both's.
 * Names and wording are calicoctl v1's. `ipip off` means what it did there: no pool is encapsulated, whatever its
 * mode; unset, the pools decide.
 */
import { InvalidError, TortieError, UsageError } from '../../base/errors.ts';
import { parseAsNumber } from '../../model/as-number.ts';
import type { IPPool, Resource } from '../../model/resources.ts';
import { API_VERSION } from '../../model/resources.ts';
import { isPlainObject, rewriteStored } from '../../model/rewrite.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDatastoreOptions, type DatastoreOptions } from '../datastore-options.ts';
import { hasCode, type ResourceClient, type ResourceId } from '../resource-client.ts';
import { withClient } from '../resource-options.ts';
import { rewriteWithRetries } from '../rewrite-resource.ts';

type Options = DatastoreOptions & { readonly node?: string; readonly raw?: string };
type Kind = 'BGPConfiguration' | 'FelixConfiguration';
type Value = string | number | boolean | undefined;

/** A field of a configuration resource, and how its value is written on the command line. */
interface Setting {
  readonly kind: Kind;
  readonly field: string;
  readonly parse: (text: string) => Value;
  readonly format: (value: Value) => string;
}

const DEFAULT_AS_NUMBER = 64512;
/** calicoctl v1's words -> v3's. */
const LOG_LEVELS: Readonly<Record<string, string>> = {
  none: 'None',
  debug: 'Debug',
  info: 'Info',
  warning: 'Warning',
  error: 'Error',
  critical: 'Fatal',
};

export function run(argv: readonly string[]): Promise<number> {
  const config = newCommand('config', "Show and change settings of all nodes, by calicoctl v1's names");
  const names = 'logLevel, nodeToNodeMesh, asNumber or ipip; with --raw any name of that component';
  const sub = (name: string, summary: string) =>
    addDatastoreOptions(
      config
        .command(name)
        .description(summary)
        .argument('<name>', names)
        .option('--node <node>', 'of this node alone (logLevel and --raw only)')
        .option('--raw <component>', "bgp or felix: the component's own setting of that name"),
    );
  sub('set', 'change a setting')
    .argument('<value>', 'on or off; a number; a log level: none debug info warning error critical')
    .action(handler((name: string, value: string, options: Options) => set(name, value, options)));
  sub('unset', 'back to the default').action(
    handler((name: string, options: Options) => set(name, undefined, options)),
  );
  sub('get', 'print a setting').action(handler(get));
  config.addHelpText('after', '\nExample:\n  $ tortie config set --raw=felix IpInIpMtu 1480');
  return runCommand(config, argv);
}

async function set(name: string, text: string | undefined, options: Options): Promise<void> {
  const settings = settingsOf(name, options);
  const values = settings.map(({ parse }) => (text === undefined ? undefined : parse(text)));
  await withClient(options, async (client) => {
    if (text !== undefined) await client.initialize();
    for (const [i, setting] of settings.entries())
      await write(client, idOf(setting, options.node), setting.field, values[i]);
  });
}

async function get(name: string, options: Options): Promise<void> {
  const setting = settingsOf(name, options)[0]!;
  const text = await withClient(options, async (client) => {
    const own = await read(client, idOf(setting, options.node), setting.field);
    if (options.raw !== undefined) return own === undefined ? '(unset)' : setting.format(own);
    if (own !== undefined) return setting.format(own);
    const global = options.node === undefined ? undefined : await read(client, idOf(setting), setting.field);
    const value = setting.format(global ?? (await byDefault(client, name)));
    return options.node === undefined ? value : `${value} (inherited from global)`;
  });
  process.stdout.write(`${text}\n`);
}

/** What holds where nothing is set. */
async function byDefault(client: ResourceClient, name: string): Promise<Value> {
  switch (name) {
    case 'asNumber':
      return DEFAULT_AS_NUMBER;
    case 'nodeToNodeMesh':
      return true;
    case 'ipip':
      return (await client.list('IPPool')).resources.some((pool: IPPool) => pool.spec.ipipMode !== 'Never');
    default:
      return 'Info';
  }
}

function failed(reason: string): UsageError {
  return new UsageError(`Error executing command: ${reason}`);
}

/** The settings that a name stands for; what it is read from comes first. */
function settingsOf(name: string, { raw, node }: Options): readonly Setting[] {
  if (raw !== undefined) return [rawSetting(raw, name)];
  const known = COMMON[name];
  if (!known) throw failed(`unrecognised config name '${name}'`);
  if (node !== undefined && name !== 'logLevel') throw failed('--node should not be specified');
  return known;
}

const onOrOff = {
  parse: (text: string): Value => {
    if (text !== 'on' && text !== 'off') throw failed(`invalid value '${text}'`);
    return text === 'on';
  },
  format: (value: Value) => (value ? 'on' : 'off'),
};

const logLevel = {
  parse: (text: string): Value => {
    const level = LOG_LEVELS[text];
    if (level === undefined) throw failed(`invalid value '${text}'`);
    return level;
  },
  format: (value: Value) =>
    Object.keys(LOG_LEVELS).find((word) => LOG_LEVELS[word] === value) ?? String(value).toLowerCase(),
};

const asNumber = {
  parse: (text: string): Value => {
    const number = parseAsNumber(text);
    if (number === undefined) throw failed('the supplied AS number is not valid');
    return number;
  },
  format: String,
};

const COMMON: Readonly<Record<string, readonly Setting[]>> = {
  asNumber: [{ kind: 'BGPConfiguration', field: 'asNumber', ...asNumber }],
  nodeToNodeMesh: [{ kind: 'BGPConfiguration', field: 'nodeToNodeMeshEnabled', ...onOrOff }],
  ipip: [{ kind: 'FelixConfiguration', field: 'ipipEnabled', ...onOrOff }],
  logLevel: [
    { kind: 'FelixConfiguration', field: 'logSeverityScreen', ...logLevel },
    { kind: 'BGPConfiguration', field: 'logSeverityScreen', ...logLevel },
  ],
};

/** Raw names of v1 whose v3 field is called otherwise; all others differ in their first letter at most. */
const RENAMED: Readonly<Record<string, string>> = {
  IpInIpMtu: 'ipipMTU',
  IpInIpEnabled: 'ipipEnabled',
  as_num: 'asNumber',
  node_mesh: 'nodeToNodeMeshEnabled',
  loglevel: 'logSeverityScreen',
};

function rawSetting(component: string, name: string): Setting {
  if (component !== 'bgp' && component !== 'felix')
    throw failed(`--raw: expected bgp or felix, got '${component}'`);
  return {
    kind: component === 'bgp' ? 'BGPConfiguration' : 'FelixConfiguration',
    field: RENAMED[name] ?? `${name.slice(0, 1).toLowerCase()}${name.slice(1)}`,
    parse: rawValue,
    format: String,
  };
}

/** The resource's schema judges whether the field may have such a value. */
function rawValue(text: string): Value {
  if (/^(?:0|[1-9]\d{0,14})$/.test(text)) return Number(text);
  return /^(?:true|false)$/i.test(text) ? text.toLowerCase() === 'true' : text;
}

/** FelixConfiguration and BGPConfiguration of one node are called `node.NAME`. */
function idOf({ kind }: Setting, node?: string): ResourceId & { readonly kind: Kind } {
  return { kind, name: node === undefined ? 'default' : `node.${node}` };
}

async function read(
  client: ResourceClient,
  id: ResourceId & { readonly kind: Kind },
  field: string,
): Promise<Value> {
  try {
    const { spec } = await client.get(id);
    return (spec as Readonly<Record<string, Value>>)[field];
  } catch (error) {
    if (hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) return undefined;
    throw error;
  }
}

async function write(client: ResourceClient, id: ResourceId, field: string, value: Value): Promise<void> {
  try {
    await change(client, id, field, value);
  } catch (error) {
    if (!hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) throw asRefusal(error);
    if (value === undefined) return;
    await create(client, id);
    await change(client, id, field, value).catch((refused) => {
      throw asRefusal(refused);
    });
  }
}

async function change(client: ResourceClient, id: ResourceId, field: string, value: Value): Promise<void> {
  await rewriteWithRetries(client, id, (entry) => ({
    text: rewriteStored(entry.value, (object) => {
      const { [field]: _old, ...spec } = isPlainObject(object.spec) ? object.spec : {};
      return { ...object, spec: value === undefined ? spec : { ...spec, [field]: value } };
    }),
  }));
}

async function create(client: ResourceClient, { kind, name }: ResourceId): Promise<void> {
  try {
    await client.create({ kind, apiVersion: API_VERSION, metadata: { name }, spec: {} } as Resource);
  } catch (error) {
    if (!hasCode(error, 'ERR_RESOURCE_EXISTS')) throw error;
  }
}

function asRefusal(error: unknown): unknown {
  if (!(error instanceof TortieError) || !/^ERR_RESOURCE_REFUSED$/.test(error.code)) return error;
  return new InvalidError(error.code, `Error executing command: ${error.message}`);
}
