/**
 * The lab: a multi-zone cloud of network namespaces on one machine. Theory of operation.
 *
 * A topology file (topology.ts) says which zones, nodes and workloads there are. planLab (plan.ts) derives
 * from it, and from nothing else, the namespaces, links, addresses and rules that make it; realiseNetwork
 * (network.ts) compares that with the machine and adds what is missing. fabric.ts says what each profile
 * lets through. bringUp (up.ts), step by step:
 *   1. write the lab's record (record.ts), so that `down` knows what is ours whatever happens from here;
 *   2. realise the network, start the members where the datastore is etcd (etcd.ts, management.ts), and apply the
 *      topology's manifests to the lab's own datastore, again where it was emptied meanwhile (emptied.ts);
 *   3. start one real `tortie node run` per node in its namespace (agents.ts) and wait until they serve;
 *   4. attach the workloads by the real `tortie workload attach` (workloads.ts), write the names that resolve
 *      inside, and wait until all of it is in force on every node.
 * takeDown (down.ts) ends what runs in the lab's namespaces (processes.ts), removes them and the state; it
 * needs nothing of the above to be whole.
 *
 * verify (verify.ts) never asks an agent. It sends echo requests between all workloads, captures them at the
 * fabric's end of the nodes' links and at both workloads, and compares what they looked like with what the
 * resources and the fabric demand (expected.ts), which is worked out without any code of the agent's.
 *
 * Without root, a command runs itself again in namespaces of its user's own (rootless.ts), and all of this there.
 *
 * Every name carries the lab's, so that labs do not meet: namespaces `tortie-LAB-HOST`, state in
 * `/run/tortie/labs/LAB`, one lock per lab. Nothing is made outside of these, `/etc/netns/tortie-LAB-HOST`
 * and the namespaces themselves.
 */
import type { Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { FABRIC, INTERNET, MANAGEMENT, MEMBERS, ROUTER, type Topology } from './topology.ts';

/** What a lab's operations need of the world; the command line gives it. */
export interface LabContext {
  readonly labsDirectory: string;
  /** The command line of `tortie` itself, for what the lab starts. */
  readonly tortie: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  /** Tells a person what is being done, one line a step. */
  readonly progress: (line: string) => void;
  /** Hears every command that changes something; undefined for none. */
  readonly echo: ((line: string) => void) | undefined;
}

/** The hosts that `lab exec` can enter. */
export function hostsOf(topology: Topology): string[] {
  const named = [...topology.nodes, ...topology.workloads].map((host) => host.name);
  const management = topology.datastore === 'etcd' ? [MANAGEMENT, ...MEMBERS] : [];
  return [...named, ROUTER, INTERNET, FABRIC, ...management];
}

export function requireHost(topology: Topology, host: string): void {
  const hosts = hostsOf(topology);
  if (!hosts.includes(host))
    throw new UsageError(`the lab ${topology.name} has no host "${host}"`, {
      hint: `hosts: ${hosts.join(', ')}`,
    });
}
