/** `lab down`: leaves nothing of a lab, whatever state it is in. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FailedError } from '../base/errors.ts';
import type { LabContext } from './lab.ts';
import { withLabLock } from './lock.ts';
import { machineDevice } from './management.ts';
import { type LabPaths, labPaths, NETNS_ETC_DIRECTORY, namespaceName } from './names.ts';
import { forgetNamespaceMount } from './namespace-mount.ts';
import { existingNamespaces, removeMachineLink, removeNamespaces } from './network.ts';
import { endProcesses, type ProcessId, processesIn, runningProcess } from './processes.ts';
import { labNames, namespacesOfOthers, readRecord, removeIfEmpty, removeState } from './record.ts';

/** A process may fork while we look; beyond this many rounds somebody keeps starting new ones. */
const END_ROUNDS = 5;

/** @returns false where there was nothing of such a lab */
export async function takeDown(lab: string, context: LabContext): Promise<boolean> {
  const { labsDirectory } = context;
  const found = await withLabLock(context, lab, async () => {
    const namespaces = namespacesOf(lab, labsDirectory);
    const hasState = labNames(labsDirectory).includes(lab);
    await endEverything(lab, namespaces, context);
    await removeMachineLink(machineDevice(lab), context.echo);
    await removeNamespaces(namespaces, context.echo);
    for (const namespace of namespaces)
      rmSync(join(NETNS_ETC_DIRECTORY, namespace), { recursive: true, force: true });
    removeState(labsDirectory, lab);
    return hasState || namespaces.length > 0;
  });
  removeIfEmpty(NETNS_ETC_DIRECTORY, 1);
  await forgetNamespaceMount(labsDirectory);
  removeIfEmpty(labsDirectory, 2);
  return found;
}

/** What the record says; without one that can be read, what is named like the lab's and no other lab claims. */
function namespacesOf(lab: string, labsDirectory: string): readonly string[] {
  try {
    const known = readRecord(labsDirectory, lab);
    if (known) return known.record.namespaces;
  } catch (error) {
    if (!(error instanceof FailedError)) throw error;
  }
  const others = namespacesOfOthers(labsDirectory, lab);
  const named = [...existingNamespaces(), ...entries(NETNS_ETC_DIRECTORY)];
  const ours = named.filter((name) => name.startsWith(namespaceName(lab, '')) && !others.has(name));
  return [...new Set(ours)];
}

function recordedProcesses({ directory }: LabPaths): ProcessId[] {
  const agents = entries(join(directory, 'nodes')).map((node) => join('nodes', node, 'agent.pid'));
  const members = entries(join(directory, 'etcd')).map((file) => join('etcd', file));
  return [...agents, ...members]
    .filter((file) => file.endsWith('.pid'))
    .flatMap((file) => runningProcess(join(directory, file)) ?? []);
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

async function endEverything(
  lab: string,
  namespaces: readonly string[],
  { clock, labsDirectory }: LabContext,
): Promise<void> {
  // Those whose namespace is not to be found any more are known by their pid files.
  await endProcesses(recordedProcesses(labPaths(labsDirectory, lab)), clock);
  let left: { readonly pid: number }[] = [];
  for (let round = 0; round < END_ROUNDS; round++) {
    const processes = processesIn(namespaces);
    if (processes.length === 0) return;
    left = await endProcesses(processes, clock);
  }
  if (left.length > 0)
    throw new FailedError(
      'ERR_LAB_PROCESSES',
      `processes in the lab's namespaces do not end: ${left.map(({ pid }) => pid).join(', ')}`,
    );
}
