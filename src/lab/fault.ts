/**
 * `lab fault`: breaks a thing of the lab as it would break in a data centre, and mends it. A fault is the state of the
 * lab itself (a link that is down, a process that is gone or stands still), so the list of faults asks the lab, not a
 * file, and `lab up` mends what is down or gone. Loss and delay would need the kernel's netem, which the kernels that
 * Tortie is for often lack: not offered.
 */
import { UsageError } from '../base/errors.ts';
import type { LinkEnd } from './host-plan.ts';
import type { LabContext } from './lab.ts';
import { type LabPaths, labPaths, namespaceName } from './names.ts';
import { routerPort } from './plan.ts';
import { endProcesses, isStopped, runningProcess } from './processes.ts';
import { runSuccessfully } from './program.ts';
import { FABRIC, INTERNET, MANAGEMENT, MEMBERS, ROUTER, type Topology } from './topology.ts';

export const FAULT_ACTIONS = ['link-down', 'link-up', 'kill', 'freeze', 'thaw'] as const;
export type FaultAction = (typeof FAULT_ACTIONS)[number];

/** The end of a link that is set down: the fabric's, so that inside the host it looks like a cable pulled out. */
function linksOf({ nodes, zones, datastore }: Topology): ReadonlyMap<string, LinkEnd> {
  const members = datastore === 'etcd' ? MEMBERS : [];
  return new Map([
    ...nodes.map(({ name }) => [name, { host: FABRIC, interface: name }] as const),
    ...zones.map((zone) => [zone.name, { host: FABRIC, interface: routerPort(zone) }] as const),
    ...members.map((member) => [member, { host: MANAGEMENT, interface: member }] as const),
    [INTERNET, { host: ROUTER, interface: INTERNET }],
  ]);
}

interface LabProcess {
  readonly what: string;
  readonly pidFile: string;
}

function processesOf({ nodes, datastore }: Topology, paths: LabPaths): ReadonlyMap<string, LabProcess> {
  const members = datastore === 'etcd' ? MEMBERS : [];
  return new Map<string, LabProcess>([
    ...nodes.map(
      ({ name }) => [name, { what: `the agent of ${name}`, pidFile: paths.agentPid(name) }] as const,
    ),
    ...members.map((name) => [name, { what: `etcd on ${name}`, pidFile: paths.memberPid(name) }] as const),
  ]);
}

/** @returns what was done, for people */
export function applyFault(
  topology: Topology,
  action: FaultAction,
  target: string,
  context: LabContext,
): Promise<string> {
  return action === 'link-down' || action === 'link-up'
    ? setLink(topology, action, target, context)
    : signalProcess(topology, action, target, context);
}

async function setLink(
  topology: Topology,
  action: 'link-down' | 'link-up',
  target: string,
  { echo }: LabContext,
): Promise<string> {
  const end = targetOf(linksOf(topology), action, target);
  const state = action === 'link-down' ? 'down' : 'up';
  const where = ['-n', namespaceName(topology.name, end.host)];
  await runSuccessfully('ip', [...where, 'link', 'set', 'dev', end.interface, state], { echo });
  return `the link of ${target} is ${state}`;
}

const SIGNALS = { kill: 'SIGKILL', freeze: 'SIGSTOP', thaw: 'SIGCONT' } as const;
const DONE = {
  kill: 'is gone; tortie lab up starts it again',
  freeze: 'stands still',
  thaw: 'goes on',
} as const;

async function signalProcess(
  topology: Topology,
  action: keyof typeof SIGNALS,
  target: string,
  { labsDirectory, clock, echo }: LabContext,
): Promise<string> {
  const processes = processesOf(topology, labPaths(labsDirectory, topology.name));
  const { what, pidFile } = targetOf(processes, action, target);
  const id = runningProcess(pidFile);
  if (!id) return `${what} does not run`;
  echo?.(`kill -${SIGNALS[action]} ${id.pid}`);
  process.kill(id.pid, SIGNALS[action]);
  if (action === 'kill') await endProcesses([id], clock);
  return `${what} ${DONE[action]}`;
}

function targetOf<T>(targets: ReadonlyMap<string, T>, action: FaultAction, target: string): T {
  const found = targets.get(target);
  if (found) return found;
  throw new UsageError(`${action}: there is no "${target}" to do that to`, {
    hint: `one of: ${[...targets.keys()].join(', ')}`,
  });
}

/** The faults that the lab has now, a line each. */
export async function listFaults(topology: Topology, { labsDirectory }: LabContext): Promise<string[]> {
  const links = linksOf(topology);
  const hosts = [...new Set([...links.values()].map(({ host }) => host))];
  const down = new Map(
    await Promise.all(hosts.map(async (host) => [host, await interfacesDown(topology, host)] as const)),
  );
  const linkFaults = [...links].flatMap(([target, end]) =>
    down.get(end.host)?.has(end.interface) ? [`the link of ${target} is down`] : [],
  );
  const processes = processesOf(topology, labPaths(labsDirectory, topology.name));
  const processFaults = [...processes.values()].flatMap(({ what, pidFile }) => {
    const id = runningProcess(pidFile);
    if (!id) return [`${what} does not run`];
    return isStopped(id) ? [`${what} stands still`] : [];
  });
  return [...linkFaults, ...processFaults];
}

async function interfacesDown(topology: Topology, host: string): Promise<ReadonlySet<string>> {
  const words = ['-n', namespaceName(topology.name, host), '-json', 'link', 'show'];
  const shown = JSON.parse((await runSuccessfully('ip', words)) || '[]') as {
    ifname: string;
    flags: string[];
  }[];
  return new Set(shown.filter(({ flags }) => !flags.includes('UP')).map(({ ifname }) => ifname));
}
