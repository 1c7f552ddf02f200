/** The lab's workloads: attached by the real command, found again in the datastore, known by name inside the lab. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kindPrefix } from '../model/keys.ts';
import { decodeStored } from '../model/stored.ts';
import type { Datastore } from '../store/datastore.ts';
import { type AgentSetting, nodeEnvironment } from './agents.ts';
import { NETNS_ETC_DIRECTORY, namespaceName } from './names.ts';
import { hostsFile, type LabPlan } from './plan.ts';
import { runSuccessfully } from './program.ts';
import type { Topology } from './topology.ts';

/** A node process starts, asks the datastore and makes a link: a second, or many on a machine under load. */
const ATTACH_DEADLINE_MS = 60_000;

/** Attaching what is attached already changes nothing. */
export async function attachWorkloads(
  setting: AgentSetting,
  echo: ((line: string) => void) | undefined,
): Promise<void> {
  const { topology, datastore, tortie } = setting;
  await Promise.all(
    topology.workloads.map(({ name, node }) =>
      runSuccessfully(
        'ip',
        [
          ...['netns', 'exec', namespaceName(topology.name, node), ...tortie, 'workload', 'attach', name],
          ...['--netns', namespaceName(topology.name, name), '--node', node, '--datastore', datastore],
        ],
        { env: nodeEnvironment(node, setting), deadlineMs: ATTACH_DEADLINE_MS, echo },
      ),
    ),
  );
}

/** Addresses by the names that the topology has; a workload that is not attached is left out. */
export async function workloadAddresses(topology: Topology, store: Datastore): Promise<Map<string, string>> {
  const { entries } = await store.list(kindPrefix('WorkloadEndpoint'));
  const addresses = new Map<string, string>();
  for (const workload of topology.workloads)
    for (const entry of entries) {
      const decoded = decodeStored('WorkloadEndpoint', entry.value);
      if (!decoded.ok) continue; // a bad object is the agents' to report
      const { containerID, node, ipNetworks } = decoded.resource.spec;
      const address = ipNetworks?.[0]?.replace(/\/32$/, '');
      if (containerID === workload.name && node === workload.node && address)
        addresses.set(workload.name, address);
    }
  return addresses;
}

/** `ip netns exec` lays these over /etc/hosts: names of the lab resolve inside, and only there. */
export function writeHostsFiles(
  topology: Topology,
  plan: LabPlan,
  addresses: ReadonlyMap<string, string>,
): void {
  const text = hostsFile(topology, addresses);
  for (const { namespace } of plan.hosts) {
    const directory = join(NETNS_ETC_DIRECTORY, namespace);
    mkdirSync(directory, { recursive: true });
    // In place: what already runs inside has this very file mounted.
    writeFileSync(join(directory, 'hosts'), text);
  }
}
