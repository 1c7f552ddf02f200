/** One real `tortie node run` per node of the lab, in the node's namespace, outliving the command that started it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { type Clock, poll } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { HOST_INTERFACE } from './host-plan.ts';
import { type LabPaths, namespaceName } from './names.ts';
import {
  endProcesses,
  formatProcessId,
  isIn,
  type ProcessId,
  runningProcess,
  startDetached,
} from './processes.ts';
import type { LabNode, Topology } from './topology.ts';

/** An agent answers within a second on an idle machine; on a loaded one with many nodes, in tens. */
const READY_DEADLINE_MS = 60_000;
const STATUS_DEADLINE_MS = 2_000;
/** How much of a dead agent's log its error shows. */
const LOG_TAIL_LINES = 12;

/** What we read of `GET /v1/status`; the agent says more. */
export interface AgentStatus {
  readonly state: string;
  /** Highest revision of the datastore that is in force. */
  readonly revision: string;
}

export interface AgentSetting {
  readonly topology: Topology;
  readonly paths: LabPaths;
  readonly datastore: string;
  /** The command line of `tortie` itself. */
  readonly tortie: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** The agent of a node that runs, as its pid file says. */
export function runningAgent(paths: LabPaths, node: string): ProcessId | undefined {
  return runningProcess(paths.agentPid(node));
}

/** Starts the agents that do not run. @returns the nodes that got one */
export async function startAgents(setting: AgentSetting, clock: Clock): Promise<string[]> {
  const { topology, paths } = setting;
  const running = topology.nodes.flatMap(({ name }) => {
    const id = runningAgent(paths, name);
    return id ? [{ name, id, inPlace: isIn(id, namespaceName(topology.name, name)) }] : [];
  });
  // Their namespace lost its name (or, without root, its holder) and was made anew: they serve nobody.
  await endProcesses(
    running.flatMap(({ id, inPlace }) => (inPlace ? [] : [id])),
    clock,
  );
  const dead = topology.nodes.filter(
    (node) => !running.some(({ name, inPlace }) => inPlace && name === node.name),
  );
  await Promise.all(
    dead.map(async (node) => {
      mkdirSync(paths.runDirectory(node.name), { recursive: true });
      const id = await startDetached('ip', agentCommand(node, setting), {
        logFile: paths.agentLog(node.name),
        env: nodeEnvironment(node.name, setting),
      });
      writeFileSync(paths.agentPid(node.name), formatProcessId(id));
    }),
  );
  return dead.map((node) => node.name);
}

/** `ip netns exec` replaces itself by the agent, so the pid we get is the agent's. */
function agentCommand(node: LabNode, { topology, datastore, tortie }: AgentSetting): string[] {
  const { transport, sender, fastPath } = node.agent;
  return [
    ...['netns', 'exec', namespaceName(topology.name, node.name), ...tortie, 'node', 'run'],
    ...['--name', node.name, '--datastore', datastore],
    // The subnet is the interface's, and once the resource has an address, that one stays: a learner may change it.
    ...['--ip-autodetection-method', `interface=${HOST_INTERFACE}`],
    ...(transport ? ['--transport', transport] : []),
    ...(sender ? ['--sender', sender] : []),
    ...(fastPath ? ['--fast-path', fastPath] : []),
  ];
}

/** Variables of the caller that a command inside may need; calico/node's own must not leak in. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'USER',
  'LANG',
  'LC_ALL',
  'TERM',
  'SHELL',
  'NODE_OPTIONS',
  'TMPDIR',
] as const;

export function callersEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    PASSED_ON.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])),
  );
}

/** What commands inside a node see: the agent itself, and `lab exec`. */
export function nodeEnvironment(
  node: string,
  { paths, datastore, env, topology }: Pick<AgentSetting, 'paths' | 'datastore' | 'env' | 'topology'>,
): NodeJS.ProcessEnv {
  return {
    ...callersEnvironment(env),
    TORTIE_LAB: topology.name,
    TORTIE_DATASTORE: datastore,
    TORTIE_RUN_DIR: paths.runDirectory(node),
    NODENAME: node,
    NO_DEFAULT_POOLS: 'true',
  };
}

/** Waits until every agent serves; the first that dies ends the wait with the end of its log. */
export async function waitForAgents({ topology, paths }: AgentSetting, clock: Clock): Promise<void> {
  await Promise.all(
    topology.nodes.map(async ({ name }) => {
      const ready = await poll(clock, READY_DEADLINE_MS, 50, async () => {
        const status = await agentStatus(paths, name);
        if (status && status.state !== 'starting') return true;
        if (!runningAgent(paths, name)) throw agentFailed(paths, name, 'ended before it was ready');
        return undefined;
      });
      if (!ready) throw agentFailed(paths, name, `was not ready within ${READY_DEADLINE_MS / 1000} s`);
    }),
  );
}

/** Waits until what the datastore holds now is in force on every node; false where that took too long. */
export async function waitForRevision(
  { topology, paths }: Pick<AgentSetting, 'topology' | 'paths'>,
  revision: string,
  deadlineMs: number,
  clock: Clock,
): Promise<boolean> {
  const reached = await poll(clock, deadlineMs, 30, async () => {
    const statuses = await Promise.all(topology.nodes.map((node) => agentStatus(paths, node.name)));
    return statuses.every((status) => status && BigInt(status.revision) >= BigInt(revision)) || undefined;
  });
  return reached ?? false;
}

/** undefined while the agent does not answer. */
export function agentStatus(paths: LabPaths, node: string): Promise<AgentStatus | undefined> {
  return new Promise((resolve) => {
    const request = get(
      { socketPath: paths.statusSocket(node), path: '/v1/status', timeout: STATUS_DEADLINE_MS },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve(parseStatus(text)));
        response.on('error', () => resolve(undefined));
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

function parseStatus(text: string): AgentStatus | undefined {
  try {
    const { state, revision } = JSON.parse(text) as Partial<AgentStatus>;
    return typeof state === 'string' && /^\d+$/.test(`${revision}`)
      ? { state, revision: `${revision}` }
      : undefined;
  } catch {
    return undefined;
  }
}

function agentFailed(paths: LabPaths, node: string, what: string): FailedError {
  const file = paths.agentLog(node);
  return new FailedError(
    'ERR_LAB_AGENT',
    `the agent of ${node} ${what}; the end of ${file}:\n  ${logTail(file)}`,
    { hint: 'tortie lab up tries again, tortie lab down removes the lab' },
  );
}

/** The last lines of a log, for an error; none where there is no log. */
export function logTail(file: string): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n  ');
  } catch {
    return '';
  }
}
