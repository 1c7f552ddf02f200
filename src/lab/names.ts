/** How a lab's things are called, so that names alone tell whose they are and labs do not meet. */
import { join } from 'node:path';

/** `tortie-two-az-node1`: the namespace of a host (node, workload, router, internet, fabric). */
export function namespaceName(lab: string, host: string): string {
  return `tortie-${lab}-${host}`;
}

/** Where iproute2 keeps named namespaces, and so where we look for them. */
export const NETNS_DIRECTORY = '/run/netns';
/** What `ip netns exec NS` lays over /etc, by namespace. */
export const NETNS_ETC_DIRECTORY = '/etc/netns';

export function namespacePath(namespace: string): string {
  return join(NETNS_DIRECTORY, namespace);
}

/** Every path below a lab's state directory. */
export interface LabPaths {
  readonly directory: string;
  /** The record of what belongs to the lab; written before anything is made. */
  readonly record: string;
  readonly lock: string;
  readonly datastore: string;
  readonly manifests: string;
  runDirectory(node: string): string;
  statusSocket(node: string): string;
  agentLog(node: string): string;
  agentPid(node: string): string;
  /** Of an etcd member. */
  memberData(member: string): string;
  memberLog(member: string): string;
  memberPid(member: string): string;
  /** Of the relay to the members, without root. */
  readonly relayPid: string;
  readonly relayLog: string;
  readonly relayEndpoints: string;
}

export function labPaths(labsDirectory: string, lab: string): LabPaths {
  const directory = join(labsDirectory, lab);
  const ofNode = (node: string, file: string) => join(directory, 'nodes', node, file);
  return {
    directory,
    record: join(directory, 'lab.json'),
    lock: join(labsDirectory, `.${lab}.lock`),
    datastore: join(directory, 'datastore'),
    manifests: join(directory, 'manifests'),
    runDirectory: (node) => join(directory, 'nodes', node),
    statusSocket: (node) => ofNode(node, `node-${node}.sock`),
    agentLog: (node) => ofNode(node, 'agent.log'),
    agentPid: (node) => ofNode(node, 'agent.pid'),
    memberData: (member) => join(directory, 'etcd', member),
    memberLog: (member) => join(directory, 'etcd', `${member}.log`),
    relayPid: join(directory, 'etcd', 'relay.pid'),
    relayLog: join(directory, 'etcd', 'relay.log'),
    relayEndpoints: join(directory, 'etcd', 'relay.endpoints'),
    memberPid: (member) => join(directory, 'etcd', `${member}.pid`),
  };
}

/** Tells a command that runs as root of a user namespace where its user has the labs (rootless.ts). */
export const LABS_DIRECTORY_VARIABLE = 'TORTIE_LABS_DIRECTORY';

/** `/run/tortie/labs`; without root, below `$XDG_RUNTIME_DIR`. */
export function labsDirectory(env: NodeJS.ProcessEnv, uid: number): string {
  const outside = env[LABS_DIRECTORY_VARIABLE];
  if (outside) return outside;
  return uid === 0 || !env.XDG_RUNTIME_DIR ? '/run/tortie/labs' : join(env.XDG_RUNTIME_DIR, 'tortie/labs');
}
