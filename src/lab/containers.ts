/**
 * A lab whose hosts are containers of this machine (docker-compose.yml), found without asking Docker anything.
 * Theory of operation: every container that is a host of the topology says which by TORTIE_LAB_HOST in its
 * environment; a process of it shows the container's network namespace as /proc/PID/ns/net. A node's interface
 * names the interface at the other end of its veth, the fabric's port: a bridge port in our own namespace. So whoever
 * calls this must see the machine's processes and be in its network namespace, as root (`pid: host`,
 * `network_mode: host`, `privileged: true`).
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { FailedError } from '../base/errors.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { MACHINE } from './host-plan.ts';
import type { LabPlaces, PortPlace } from './places.ts';
import { runSuccessfully } from './program.ts';
import { INTERNET, type LabNode, type Topology } from './topology.ts';

/** Says in a container's environment which host of the topology it is. */
export const HOST_VARIABLE = 'TORTIE_LAB_HOST';

const OWN_NAMESPACE = '/proc/self/ns/net';
/** What a place that does not exist is called; no namespace has this path. */
const NOWHERE = '/proc/0/ns/net';

/** @throws FailedError where no container of the topology runs, or two say that they are the same host */
export async function containerPlaces(
  topology: Topology,
  progress: (line: string) => void,
): Promise<LabPlaces> {
  const wanted = [...topology.nodes, ...topology.workloads].map(({ name }) => name).concat(INTERNET);
  const namespaces = containerNamespaces();
  const missing = wanted.filter((host) => !namespaces.has(host));
  if (missing.length === wanted.length)
    throw new FailedError('ERR_LAB_NOT_UP', `no container says that it is a host of ${topology.name}`, {
      hint: `expected processes with ${HOST_VARIABLE}=${wanted[0]} and so on in their environment; docker compose up -d`,
    });
  if (missing.length) progress(`no container for ${missing.join(', ')}`);
  const namespace = (host: string) => namespaces.get(host) ?? NOWHERE;
  const ports = new Map<string, PortPlace>();
  for (const node of topology.nodes) {
    const path = namespaces.get(node.name);
    ports.set(node.name, path ? await portOf(node, path) : { netnsPath: NOWHERE, interface: MACHINE });
  }
  return { namespace, port: (node) => ports.get(node)! };
}

/** Host -> path of its namespace. */
export function containerNamespaces(proc = '/proc'): Map<string, string> {
  const found = new Map<string, { path: string; id: string }>();
  // In order of age, as far as numbers tell: a container's first process lives as long as the container.
  const processes = readdirSync(proc).filter((entry) => /^\d+$/.test(entry));
  for (const pid of processes.sort((a, b) => Number(a) - Number(b))) {
    const path = `${proc}/${pid}/ns/net`;
    const process = hostAndNamespace(`${proc}/${pid}/environ`, path);
    if (!process) continue;
    const { host, id } = process;
    const known = found.get(host);
    if (known && known.id !== id)
      throw new FailedError('ERR_LAB_AMBIGUOUS', `two containers say that they are ${host}`, {
        hint: `${HOST_VARIABLE}=${host} is in the environment of processes in ${known.path} and ${path}; end one of the two projects`,
      });
    if (!known) found.set(host, { path, id });
  }
  return new Map([...found].map(([host, { path }]) => [host, path]));
}

function hostAndNamespace(environ: string, path: string): { host: string; id: string } | undefined {
  try {
    const text = readFileSync(environ, 'latin1');
    const host = text.split('\0').find((entry) => entry.startsWith(`${HOST_VARIABLE}=`));
    if (host === undefined) return undefined;
    const { dev, ino } = statSync(path);
    return { host: host.slice(HOST_VARIABLE.length + 1), id: `${dev}:${ino}` };
  } catch {
    return undefined; // ended since the listing, or not ours to see
  }
}

interface LinkJson {
  readonly ifname?: string;
  readonly ifindex?: number;
  /** Of the other end of a veth. */
  readonly link_index?: number;
}

async function portOf(node: LabNode, netnsPath: string): Promise<PortPlace> {
  const address = formatIpv4(node.address);
  const inside = await links([
    `nsenter`,
    `--net=${netnsPath}`,
    'ip',
    '-json',
    'address',
    'show',
    'to',
    address,
  ]);
  const peer = inside.find(({ link_index }) => link_index !== undefined)?.link_index;
  const outside = await links(['ip', '-json', 'link', 'show', 'type', 'veth']);
  const port = outside.find(({ ifindex }) => ifindex === peer)?.ifname;
  if (peer === undefined || port === undefined)
    throw new FailedError(
      'ERR_NO_INTERFACE',
      `${node.name} has no link with ${address} whose other end is in this network namespace`,
      {
        hint: 'the container must be on a bridge network with that address, and this command in the network namespace of the machine',
      },
    );
  return { netnsPath: OWN_NAMESPACE, interface: port };
}

async function links([program = '', ...args]: readonly string[]): Promise<readonly LinkJson[]> {
  return JSON.parse((await runSuccessfully(program, args)) || '[]') as readonly LinkJson[];
}
