/**
 * A running lab whose datastore lost what the lab had put there. What a person deleted one by one stays deleted,
 * with one exception: a node of the topology without its Node resource is registered again by its agent's start
 * (an agent that runs leaves a deleted Node deleted). Only where nothing is left, neither a node nor a pool, was it
 * emptied as a whole, and the manifests are applied again too.
 */
import type { Clock } from '../base/clock.ts';
import { kindPrefix } from '../model/keys.ts';
import { decodeStored } from '../model/stored.ts';
import type { Datastore } from '../store/datastore.ts';
import { openDatastore } from '../store/open.ts';
import { type AgentSetting, runningAgent } from './agents.ts';
import { endProcesses } from './processes.ts';

export interface Losses {
  /** Neither nodes nor pools are left. */
  readonly emptied: boolean;
  /** Nodes of the topology that have no resource. */
  readonly nodes: readonly string[];
}

export async function findLosses({ topology, datastore, env }: AgentSetting): Promise<Losses> {
  const store = await openDatastore({ datastore, env });
  try {
    const [nodes, pools] = await Promise.all([nodeNames(store), store.list(kindPrefix('IPPool'))]);
    return {
      emptied: nodes.size === 0 && pools.entries.length === 0,
      nodes: topology.nodes.flatMap(({ name }) => (nodes.has(name) ? [] : [name])),
    };
  } finally {
    await store.close();
  }
}

async function nodeNames(store: Datastore): Promise<Set<string>> {
  const { entries } = await store.list(kindPrefix('Node'));
  return new Set(
    entries.flatMap(({ value }) => {
      const decoded = decodeStored('Node', value);
      return decoded.ok ? [decoded.resource.metadata.name] : [];
    }),
  );
}

/** So that they are started anew, and register their nodes. */
export async function endAgents(
  { paths }: AgentSetting,
  nodes: readonly string[],
  clock: Clock,
): Promise<void> {
  await endProcesses(
    nodes.flatMap((node) => runningAgent(paths, node) ?? []),
    clock,
  );
}
