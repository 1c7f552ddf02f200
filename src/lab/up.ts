/** `lab up`: makes a lab, or puts right what is missing of one. lab.ts has the steps. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { FailedError } from '../base/errors.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../ip/prefix.ts';
import { openDatastore } from '../store/open.ts';
import { type AgentSetting, nodeEnvironment, startAgents, waitForAgents, waitForRevision } from './agents.ts';
import { endAgents, findLosses } from './emptied.ts';
import { startMembers, waitForMembers } from './etcd.ts';
import { fabricName } from './fabric.ts';
import type { LabContext } from './lab.ts';
import { withLabLock } from './lock.ts';
import { chooseManagementSubnet } from './management.ts';
import { labPaths } from './names.ts';
import { noteNamespaceMount } from './namespace-mount.ts';
import { existingNamespaces, realiseNetwork } from './network.ts';
import { type LabPlan, planLab } from './plan.ts';
import { requireRoot, requireTunDevice } from './privileges.ts';
import { runSuccessfully } from './program.ts';
import {
  type KnownLab,
  type LabRecord,
  managementOfOthers,
  namespacesOfOthers,
  readRecord,
  writeRecord,
} from './record.ts';
import { labDatastore } from './store.ts';
import type { LoadedTopology } from './topology-file.ts';
import { attachWorkloads, workloadAddresses, writeHostsFiles } from './workloads.ts';

const APPLY_DEADLINE_MS = 60_000;
/** What a change takes to be in force everywhere is far below; beyond, the lab is up and verify will tell. */
const IN_FORCE_DEADLINE_MS = 15_000;

export async function bringUp(loaded: LoadedTopology, context: LabContext): Promise<void> {
  requireRoot();
  requireTunDevice();
  const { topology } = loaded;
  const paths = labPaths(context.labsDirectory, topology.name);
  await withLabLock(context, topology.name, async () => {
    const known = readRecord(context.labsDirectory, topology.name);
    if (known) requireSame(known, loaded);
    const { record } = known ?? { record: await claim(loaded, context) };
    const plan = planLab(topology, managementOf(record));
    const setting: AgentSetting = {
      topology,
      paths,
      datastore: labDatastore(paths, record),
      tortie: context.tortie,
      env: context.env,
    };
    await makeNetwork(loaded, record, plan, setting, context);
    await runNodes(setting, plan, context);
  });
}

/** Steps 1 to 2 of lab.ts. */
async function makeNetwork(
  loaded: LoadedTopology,
  record: LabRecord,
  plan: LabPlan,
  setting: AgentSetting,
  context: LabContext,
): Promise<void> {
  const { topology } = loaded;
  noteNamespaceMount(context.labsDirectory);
  const network = realiseNetwork(plan, context.echo);
  const datastore = startDatastore(record, setting, network, context);
  const [made, members] = await Promise.all([
    network,
    datastore,
    datastore
      .then(() => mendDatastore(record, setting, context))
      .then(() => applyManifests(loaded, setting, context)),
  ]);
  writeHostsFiles(topology, plan, new Map());
  context.progress(
    `network: ${plan.hosts.length} namespaces (${made.namespaces} new), ${plan.links.length} links (${made.links} new), fabric ${fabricName(topology)}`,
  );
  if (members)
    context.progress(`etcd: ${members.length ? `started ${members.join(', ')}` : 'all members run already'}`);
}

/** @returns the members that had to be started; undefined where files serve */
async function startDatastore(
  record: LabRecord,
  { topology, paths, env }: AgentSetting,
  network: Promise<unknown>,
  { clock }: LabContext,
): Promise<readonly string[] | undefined> {
  const subnet = managementOf(record);
  if (!subnet) {
    mkdirSync(paths.datastore, { recursive: true });
    return undefined;
  }
  await network;
  const setting = { lab: topology.name, paths, subnet, env };
  const started = await startMembers(setting, clock);
  await waitForMembers(setting, clock);
  return started;
}

/** A lab that was up before, and whose datastore lost what it is made of, gets that back. */
async function mendDatastore(record: LabRecord, setting: AgentSetting, context: LabContext): Promise<void> {
  if (!record.manifestsApplied) return; // it never was up
  const { emptied, nodes } = await findLosses(setting);
  if (nodes.length === 0) return;
  await endAgents(setting, nodes, context.clock);
  if (emptied)
    writeRecord(context.labsDirectory, setting.topology.name, { ...record, manifestsApplied: false });
  context.progress(
    emptied
      ? 'datastore: it was emptied; the manifests are applied again, and all agents start anew'
      : `datastore: it has no ${nodes.join(', ')}; ${nodes.length === 1 ? 'its agent starts' : 'their agents start'} anew`,
  );
}

function managementOf({ management }: LabRecord): Prefix | null {
  return (management !== null && parsePrefix(management)) || null;
}

/** Steps 3 to 4. */
async function runNodes(setting: AgentSetting, plan: LabPlan, context: LabContext): Promise<void> {
  const { topology } = setting;
  const started = await startAgents(setting, context.clock);
  context.progress(`agents: ${started.length ? `started ${started.join(', ')}` : 'all run already'}`);
  await waitForAgents(setting, context.clock);
  await attachWorkloads(setting, context.echo);
  const store = await openDatastore({ datastore: setting.datastore, env: context.env });
  try {
    const addresses = await workloadAddresses(topology, store);
    writeHostsFiles(topology, plan, addresses);
    context.progress(
      `workloads: ${[...addresses].map(([name, address]) => `${name} ${address}`).join(', ')}`,
    );
    const { revision } = await store.list('/calico/');
    if (!(await waitForRevision(setting, revision, IN_FORCE_DEADLINE_MS, context.clock)))
      context.progress(`not every agent has the datastore's revision ${revision} in force yet`);
  } finally {
    await store.close();
  }
}

/** A lab that is up is never changed into another one: what would go and what would stay is not ours to guess. */
function requireSame(known: KnownLab, { topology }: LoadedTopology): void {
  if (isDeepStrictEqual(known.topology, topology)) return;
  throw new FailedError('ERR_LAB_DIFFERENT', `the lab ${topology.name} is up with another topology`, {
    hint: `tortie lab down ${topology.name}, or give this one a name of its own with --name`,
  });
}

/** Writes the record, once it is sure that the names are free. */
async function claim(loaded: LoadedTopology, { labsDirectory }: LabContext): Promise<LabRecord> {
  const { name, datastore } = loaded.topology;
  const management = datastore === 'etcd' ? await freeManagementSubnet(labsDirectory, name) : null;
  const namespaces = planLab(loaded.topology, management).hosts.map((host) => host.namespace);
  const others = namespacesOfOthers(labsDirectory, name);
  const existing = existingNamespaces();
  for (const namespace of namespaces) {
    const other = others.get(namespace);
    if (other !== undefined)
      throw new FailedError('ERR_LAB_NAME_TAKEN', `the namespace ${namespace} belongs to the lab ${other}`, {
        hint: 'give this lab another name with --name',
      });
    if (existing.has(namespace))
      throw new FailedError(
        'ERR_LAB_NAME_TAKEN',
        `there is a namespace ${namespace} already, of no lab we know`,
        {
          hint: `tortie lab down ${name} removes what is named like this lab's`,
        },
      );
  }
  const record: LabRecord = {
    version: 1,
    topology: loaded.value,
    namespaces,
    management: management && formatPrefix(management),
    manifests: loaded.manifests.map((manifest, position) => `${position}-${manifest.name}`),
    manifestsApplied: false,
  };
  writeRecord(labsDirectory, name, record);
  return record;
}

/** Beside what other labs have, and what this machine has a route to. */
async function freeManagementSubnet(labsDirectory: string, lab: string): Promise<Prefix> {
  const shown = await runSuccessfully('ip', ['-4', '-json', 'route', 'show', 'table', 'all']);
  const routes = JSON.parse(shown || '[]') as { dst?: string }[];
  const taken = [...routes.map(({ dst = '' }) => dst), ...managementOfOthers(labsDirectory, lab)];
  return chooseManagementSubnet(
    lab,
    taken.flatMap((text) => parsePrefix(text.includes('/') ? text : `${text}/32`) ?? []),
  );
}

/** By the real command, once in the life of a lab. */
async function applyManifests(
  loaded: LoadedTopology,
  setting: AgentSetting,
  context: LabContext,
): Promise<void> {
  const { name } = loaded.topology;
  const known = readRecord(context.labsDirectory, name)!;
  if (known.record.manifestsApplied) return;
  mkdirSync(setting.paths.manifests, { recursive: true });
  for (const [position, file] of known.record.manifests.entries())
    writeFileSync(join(setting.paths.manifests, file), loaded.manifests[position]!.text);
  const [program = '', ...words] = context.tortie;
  for (const file of known.record.manifests)
    await runSuccessfully(
      program,
      [...words, 'apply', '-f', join(setting.paths.manifests, file), '--datastore', setting.datastore],
      { env: nodeEnvironment('', setting), deadlineMs: APPLY_DEADLINE_MS, echo: context.echo },
    );
  writeRecord(context.labsDirectory, name, { ...known.record, manifestsApplied: true });
}
