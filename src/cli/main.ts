#!/usr/bin/env node
/**
 * The command `tortie`. Theory of operation: this file knows only the names of the commands and where each
 * lives; a command's module, and whatever it imports, is loaded when it is used, so that `tortie version`
 * and `tortie get` start quickly. stdout is the result, stderr the talk; exit codes are DESIGN §5's.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TortieError, UsageError } from '../base/errors.ts';

/** A command module exports `run(argv)`: argv are the words after the command's name; it gives the exit code. */
export interface CommandModule {
  run(argv: readonly string[]): Promise<number>;
}

interface CommandEntry {
  /** One line of `tortie --help`. */
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
  /** Where it has a `run`, that is an agent's, which gives up capabilities before anything is loaded. */
  readonly isAgent?: true;
}

const RESOURCES = "Calico's commands: resources";
const ADDRESSES = 'Addresses and workloads';
const NODE = 'The node and the lab';
const OTHER = 'Other';

/** One line a command; the group is the heading of `tortie --help` that it stands under. */
export const COMMANDS: Readonly<Record<string, CommandEntry & { readonly group: string }>> = {
  get: { group: RESOURCES, summary: 'Show resources', load: () => import('./commands/get.ts') },
  apply: {
    group: RESOURCES,
    summary: 'Create resources, or put them in place of those that are there',
    load: () => import('./commands/apply.ts'),
  },
  create: {
    group: RESOURCES,
    summary: 'Create resources that are not there yet',
    load: () => import('./commands/create.ts'),
  },
  replace: {
    group: RESOURCES,
    summary: 'Put resources in place of those that are there',
    load: () => import('./commands/replace.ts'),
  },
  delete: { group: RESOURCES, summary: 'Delete resources', load: () => import('./commands/delete.ts') },
  label: {
    group: RESOURCES,
    summary: 'Set or remove a label of a resource',
    load: () => import('./commands/label.ts'),
  },
  patch: {
    group: RESOURCES,
    summary: 'Change part of a resource',
    load: () => import('./commands/patch.ts'),
  },
  convert: {
    group: RESOURCES,
    summary: 'Print v1 manifests as v3',
    load: () => import('./commands/convert.ts'),
  },
  validate: {
    group: RESOURCES,
    summary: 'Check manifests, without a datastore',
    load: () => import('./commands/validate.ts'),
  },
  config: {
    group: RESOURCES,
    summary: "Show and change settings of all nodes, by calicoctl v1's names",
    load: () => import('./commands/config.ts'),
  },
  lab: {
    group: NODE,
    summary: 'Bring up, use, verify and take down a multi-zone lab on this machine',
    load: () => import('./commands/lab.ts'),
  },
  explain: {
    group: NODE,
    summary: 'Say how packets between two addresses go, in both directions, and why',
    load: () => import('./commands/explain.ts'),
  },
  node: {
    group: NODE,
    isAgent: true,
    summary: "Run a node's agent, ask how it is, check the host",
    load: () => import('./commands/node.ts'),
  },
  ipam: {
    group: ADDRESSES,
    summary: 'Show, check, release and configure addresses',
    load: () => import('./commands/ipam.ts'),
  },
  tunnel: {
    group: NODE,
    isAgent: true,
    summary: 'Be the tunnel device that the kernel lacks, for routes that others put on it',
    load: () => import('./commands/tunnel.ts'),
  },
  workload: {
    group: ADDRESSES,
    summary: 'Attach network namespaces to this node, and detach them',
    load: () => import('./commands/workload.ts'),
  },
  version: { group: OTHER, summary: 'Print the version', load: () => import('./commands/version.ts') },
};

const LOG_LEVELS = ['panic', 'fatal', 'error', 'warn', 'info', 'debug'];

function help(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length)) + 3;
  const sections = [RESOURCES, ADDRESSES, NODE, OTHER].flatMap((group) => {
    const entries = Object.entries(COMMANDS).filter(([, entry]) => entry.group === group);
    const lines = entries.map(([name, { summary }]) => `  ${name.padEnd(width)}${summary}`);
    return lines.length ? [`${group}:\n${lines.join('\n')}\n`] : [];
  });
  return `Usage: tortie [-l <level>] <command> [<args>...]

Calico's IP-in-IP overlay in userspace: its resources, its commands, a node agent, and a lab.

${sections.join('\n')}
Options:
  -h, --help                Show this; 'tortie <command> --help' tells more of one command.
  -l, --log-level=<level>   ${LOG_LEVELS.join(', ')} of the agent [default: TORTIE_LOG_LEVEL, else info]

The datastore is --datastore URL, else -c FILE, else TORTIE_DATASTORE, else DATASTORE_TYPE=etcdv3 and
ETCD_ENDPOINTS as calicoctl reads them, else file:///var/lib/tortie ($XDG_STATE_HOME/tortie without root).
Exit codes: 0 done, 1 failed, 2 usage, 3 invalid resource or configuration, 4 something needed is missing.
`;
}

/** The options before the command; what is left begins with the command. */
function withoutGlobalOptions(argv: readonly string[]): readonly string[] {
  const [first = '', second = '', ...rest] = argv;
  const joined = /^(?:--log-level=|-l=?)(.+)$/.exec(first)?.[1];
  const separate = first === '-l' || first === '--log-level';
  if (joined === undefined && !separate) return argv;
  const level = joined ?? second;
  if (!LOG_LEVELS.includes(level))
    throw new UsageError(`--log-level: expected ${LOG_LEVELS.join(', ')}; got '${level}'`);
  // Calico's panic is louder than all that ours has.
  process.env.TORTIE_LOG_LEVEL = level === 'panic' ? 'fatal' : level;
  return withoutGlobalOptions(separate ? rest : argv.slice(1));
}

async function main(argv: readonly string[]): Promise<number> {
  const [name = '', ...rest] = withoutGlobalOptions(argv);
  if (name === '-h' || name === '--help' || name === 'help') {
    process.stdout.write(help());
    return 0;
  }
  if (name === '') {
    process.stderr.write(help());
    return 2;
  }
  if (!Object.hasOwn(COMMANDS, name))
    throw new UsageError(`Unknown command: "${name}"`, { hint: "See 'tortie --help'." });
  const command = COMMANDS[name]!;
  if (command.isAgent && rest[0] === 'run')
    (await import('./agent-capabilities.ts')).keepAgentCapabilitiesEarly(rest.slice(1));
  const module = await command.load();
  return module.run(rest);
}

/** One whole run: gives the exit code, with what went wrong on stderr. */
export async function tortie(argv: readonly string[]): Promise<number> {
  try {
    return await main(argv);
  } catch (error) {
    if (!(error instanceof TortieError)) throw error;
    process.stderr.write(`${error.message}\n${error.hint ? `${error.hint}\n` : ''}`);
    return error.exitCode;
  }
}

// Imported by tests, this file runs nothing. The name that npm puts on PATH is a link, hence the real path.
const started = process.argv[1];
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url))
  process.exitCode = await tortie(process.argv.slice(2));
