/**
 * A workload's link: a veth whose one end stays on the host (`cali…`) and whose other end is `eth0` in the
 * workload's network namespace. Theory of operation: the workload gets its address as a /32 and one default route
 * by 169.254.1.1, which nobody has: the host answers for it by proxy ARP, so that every packet of the workload is
 * routed by the host, also to a neighbour on the same node. The host's /32 route back is the agent's work.
 *
 * Everything is done by two runs of `ip -batch`, one on each side, in an order that can be repeated: attaching
 * what is half attached completes it.
 */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { FailedError, InvalidError, UnavailableError } from '../base/errors.ts';
import { WORKLOAD_INTERFACE_PREFIX } from '../control/ports.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { HostCommandError, output, run } from './commands.ts';
import { parseLinks } from './ip-json.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

/** Answered by proxy ARP on the host's end; Calico's choice, so that workloads look the same. */
const GATEWAY = '169.254.1.1';
export const WORKLOAD_INTERFACE = 'eth0';

export interface WorkloadLink {
  readonly hostInterface: string;
  /** The path of the workload's network namespace. */
  readonly namespace: string;
  readonly address: Ipv4;
  readonly mtu: number;
}

/** `cali` and 11 hexadecimal digits of a hash of what names the workload: 15 characters, an interface name's most. */
export function workloadInterfaceName(identity: string): string {
  const digest = createHash('sha1').update(identity).digest('hex');
  return `${WORKLOAD_INTERFACE_PREFIX}${digest.slice(0, 11)}`;
}

/** A name as `ip netns` knows it, or a path such as /proc/1234/ns/net. */
export function namespacePath(nameOrPath: string): string {
  const path = nameOrPath.includes('/') ? nameOrPath : `/run/netns/${nameOrPath}`;
  if (existsSync(path)) return path;
  throw new FailedError(
    'ERR_NO_NAMESPACE',
    `there is no network namespace ${nameOrPath} (looked at ${path})`,
    {
      hint: nameOrPath.includes('/')
        ? '`lsns -t net` lists those of processes'
        : `ip netns add ${nameOrPath}`,
    },
  );
}

/** The device's MTU; undefined where there is no such device. */
export async function deviceMtu(device: string): Promise<number | undefined> {
  const shown = await run(['ip', '-json', 'link', 'show', 'dev', device]);
  return shown.status === 0 ? parseLinks(shown.stdout).links[0]?.mtu : undefined;
}

/** The smallest MTU of an interface that is up and can be an underlay; undefined where there is none. */
export async function smallestUnderlayMtu(): Promise<number | undefined> {
  const { links } = parseLinks(await output(['ip', '-details', '-json', 'address', 'show', 'up']));
  const own = new RegExp(`^(lo$|${WORKLOAD_INTERFACE_PREFIX})`);
  const candidates = links.filter(({ name, kind }) => !own.test(name) && kind !== 'tun' && kind !== 'ipip');
  return candidates.length > 0 ? Math.min(...candidates.map(({ mtu }) => mtu)) : undefined;
}

/** Makes or completes the link. @throws FailedError where `eth0` of the namespace is another's */
export async function attachLink(link: WorkloadLink): Promise<void> {
  const { hostInterface, namespace, mtu } = link;
  refuseOwnNamespace(namespace);
  const present = isPresent(hostInterface) && (await isConnected(link));
  if (!present && isPresent(hostInterface)) await deleteLink(hostInterface);
  const add =
    `link add name ${hostInterface} mtu ${mtu} type veth ` +
    `peer name ${WORKLOAD_INTERFACE} mtu ${mtu} netns ${namespace}`;
  try {
    const commands = [...(present ? [] : [add]), `link set ${hostInterface} mtu ${mtu} up`];
    await withPrivilege(batch([], commands), namespace);
    setHostSwitches(hostInterface);
    // The workload's end last: nothing comes through before the host's end is as it should be.
    await batch(entering(namespace), insideCommands(link));
  } catch (error) {
    await deleteLink(hostInterface);
    throw error;
  }
}

/** Asks no program: a fresh attachment, the usual case, has nothing to compare or to delete. */
function isPresent(hostInterface: string): boolean {
  return existsSync(`/proc/sys/net/ipv4/conf/${hostInterface}`);
}

/** `ip -netns` takes names only. */
function entering(namespace: string): string[] {
  return ['nsenter', `--net=${namespace}`];
}

function insideCommands({ address, mtu }: WorkloadLink): string[] {
  return [
    'link set lo up',
    `link set ${WORKLOAD_INTERFACE} mtu ${mtu}`,
    `address flush dev ${WORKLOAD_INTERFACE} scope global`,
    `address replace ${formatIpv4(address)}/32 dev ${WORKLOAD_INTERFACE}`,
    `link set ${WORKLOAD_INTERFACE} up`,
    `route replace ${GATEWAY} dev ${WORKLOAD_INTERFACE} scope link`,
    `route replace default via ${GATEWAY} dev ${WORKLOAD_INTERFACE} onlink`,
  ];
}

/** Whether the host's end is there and its peer is the namespace's eth0. */
async function isConnected({ hostInterface, namespace }: WorkloadLink): Promise<boolean> {
  const [host, inside] = await Promise.all([
    run(['ip', '-json', 'link', 'show', 'dev', hostInterface]),
    run([...entering(namespace), 'ip', '-json', 'link', 'show', 'dev', WORKLOAD_INTERFACE]),
  ]);
  if (host.status !== 0 || inside.status !== 0) return false;
  const index = (JSON.parse(host.stdout) as { ifindex: number }[])[0]?.ifindex;
  const peer = (JSON.parse(inside.stdout) as { link_index?: number }[])[0]?.link_index;
  return index !== undefined && index === peer;
}

/** A workload in the host's own namespace would take the host's eth0 and default route. */
function refuseOwnNamespace(namespace: string): void {
  const [own, given] = [statSync('/proc/self/ns/net'), statSync(namespace)];
  if (own.ino === given.ino && own.dev === given.dev)
    throw new InvalidError('ERR_OWN_NAMESPACE', `${namespace} is the network namespace of the node itself`, {
      hint: 'give the namespace of the workload',
    });
}

function setHostSwitches(hostInterface: string): void {
  const switches: readonly (readonly [string, string])[] = [
    [`net/ipv4/conf/${hostInterface}/proxy_arp`, '1'],
    [`net/ipv4/conf/${hostInterface}/rp_filter`, '1'],
    [`net/ipv4/conf/${hostInterface}/forwarding`, '1'],
    // Else the kernel would wait up to 0.8 s before it answers for 169.254.1.1.
    [`net/ipv4/neigh/${hostInterface}/proxy_delay`, '0'],
  ];
  for (const [name, value] of switches) if (readSysctl(name) !== value) writeSysctl(name, value);
}

/** true where there was one. The peer goes with it. */
export async function deleteLink(hostInterface: string): Promise<boolean> {
  const deleted = await run(['ip', 'link', 'delete', 'dev', hostInterface]);
  if (deleted.status === 0) return true;
  if (/Cannot find device/i.test(deleted.stderr)) return false;
  throw (
    privilegeError(deleted.stderr) ?? new HostCommandError(['ip', 'link', 'delete', hostInterface], deleted)
  );
}

async function batch(prefix: readonly string[], commands: readonly string[]): Promise<void> {
  const words = [...prefix, 'ip', '-batch', '-'];
  const result = await run(words, `${commands.join('\n')}\n`);
  if (result.status !== 0) throw privilegeError(result.stderr) ?? new HostCommandError(words, result);
}

async function withPrivilege(command: Promise<unknown>, namespace: string): Promise<void> {
  try {
    await command;
  } catch (error) {
    if (!(error instanceof HostCommandError)) throw error;
    if (/File exists/.test(error.result.stderr))
      throw new FailedError(
        'ERR_INTERFACE_TAKEN',
        `${namespace} has an interface ${WORKLOAD_INTERFACE} already`,
        {
          cause: error,
          hint: 'detach the workload that has it, or give another namespace',
        },
      );
    throw privilegeError(error.result.stderr) ?? error;
  }
}

function privilegeError(stderr: string): UnavailableError | undefined {
  return /Operation not permitted|Permission denied/.test(stderr)
    ? new UnavailableError(
        'ERR_PRIVILEGE',
        `links of workloads need CAP_NET_ADMIN: ${stderr.trim().split('\n')[0]}`,
        {
          hint: 'run as root',
        },
      )
    : undefined;
}
