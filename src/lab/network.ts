/**
 * Makes the machine hold what a plan wants: adds what is missing, puts right what drifted, leaves the rest.
 * Everything is done by `ip` and `nft` in batches, one process per namespace at most; the links of a lab
 * are born inside its namespaces, so that this machine never sees one, but for the link of a management network.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { inNetworkNamespace } from '../io/netns.ts';
import { type HostPlan, type LinkEnd, type LinkPlan, MACHINE } from './host-plan.ts';
import { NETNS_DIRECTORY, namespacePath } from './names.ts';
import type { LabPlan } from './plan.ts';
import { runProgram, runSuccessfully } from './program.ts';

export type Echo = ((line: string) => void) | undefined;

// Interfaces are always given as `dev X` or `name X`: a zone may be called `a`, which `ip` takes for `address`.

/** What a kernel with the ipip module puts into every namespace is moved out of the agents' way. */
const KERNEL_TUNNEL = 'tunl0';
const KERNEL_TUNNEL_ASIDE = 'kernel-tunl0';

export function existingNamespaces(): ReadonlySet<string> {
  try {
    return new Set(readdirSync(NETNS_DIRECTORY));
  } catch {
    return new Set(); // no namespace was ever named on this machine
  }
}

/** Idempotent. @returns how many namespaces and links had to be made */
export async function realiseNetwork(
  plan: LabPlan,
  echo: Echo,
): Promise<{ namespaces: number; links: number }> {
  const namespaceOf = new Map(plan.hosts.map((host) => [host.host, host.namespace]));
  const existing = existingNamespaces();
  const missing = plan.hosts.filter((host) => !existing.has(host.namespace));
  await batch(
    missing.map((host) => `netns add ${host.namespace}`),
    echo,
  );
  for (const host of plan.hosts) writeSysctls(host, echo);
  const present = await observeLinks(plan);
  const { remove, add } = planLinks(plan.links, present);
  /** Words for `ip`; none for this machine. */
  const inNamespace = (end: LinkEnd, option: '-n' | 'netns') =>
    end.host === MACHINE ? [] : [option, namespaceOf.get(end.host)!];
  for (const end of remove)
    await runSuccessfully('ip', [...inNamespace(end, '-n'), 'link', 'del', 'dev', end.interface]);
  const named = (end: LinkEnd) => ['name', end.interface, ...inNamespace(end, 'netns')].join(' ');
  await batch(
    add.map(({ ends: [a, b] }) => `link add ${named(a)} type veth peer ${named(b)}`),
    echo,
  );
  await Promise.all([
    ...plan.hosts.map((host) => settleHost(host, plan, present.get(host.host), echo)),
    settleMachine(plan, echo),
  ]);
  return { namespaces: missing.length, links: add.length };
}

/** Removes namespaces, and with them every link, device and rule inside. */
export async function removeNamespaces(namespaces: readonly string[], echo: Echo): Promise<void> {
  const existing = existingNamespaces();
  const lines = namespaces.filter((name) => existing.has(name)).map((name) => `netns del ${name}`);
  await batch(lines, echo, ['-force']);
}

/** This machine's end of the management network. */
async function settleMachine({ machine, mtu }: LabPlan, echo: Echo): Promise<void> {
  if (!machine) return;
  const { device, address } = machine;
  // No IPv6 address of its own: nobody is to be asked for a router.
  const lines = [
    `link set dev ${device} addrgenmode none mtu ${mtu} up`,
    `addr replace ${address} dev ${device}`,
  ];
  await batch(lines, echo);
}

/** Removes this machine's end, and with it the link, where there is one. */
export async function removeMachineLink(device: string, echo: Echo): Promise<void> {
  const shown = await runProgram('ip', ['link', 'show', 'dev', device]);
  if (shown.status === 0) await batch([`link del dev ${device}`], echo);
}

/** Interfaces by host, for hosts that links of the lab lead to. */
type PresentLinks = ReadonlyMap<string, ReadonlySet<string>>;

async function observeLinks(plan: LabPlan): Promise<PresentLinks> {
  const linked = new Set(plan.links.flatMap(({ ends }) => ends.map((end) => end.host)));
  const hosts = plan.hosts.filter((host) => linked.has(host.host));
  const listed = await Promise.all([
    ...hosts.map(async (host) => [host.host, await interfaces(['-n', host.namespace])] as const),
    ...(linked.has(MACHINE) ? [interfaces([]).then((names) => [MACHINE, names] as const)] : []),
  ]);
  return new Map(listed);
}

async function interfaces(where: readonly string[]): Promise<ReadonlySet<string>> {
  const text = await runSuccessfully('ip', [...where, '-json', 'link', 'show']);
  return new Set((JSON.parse(text || '[]') as { ifname: string }[]).map((entry) => entry.ifname));
}

/** Links with an end missing are made anew; an end that is alone is in the way. Pure. */
export function planLinks(
  links: readonly LinkPlan[],
  present: PresentLinks,
): { remove: LinkEnd[]; add: LinkPlan[] } {
  const isPresent = (end: LinkEnd) => present.get(end.host)?.has(end.interface) ?? false;
  const add = links.filter(({ ends }) => !ends.every(isPresent));
  return { remove: add.flatMap(({ ends }) => ends.filter(isPresent)), add };
}

/** /proc/sys/net shows the namespace of the thread that opens it. */
function writeSysctls(host: HostPlan, echo: Echo): void {
  inNetworkNamespace(namespacePath(host.namespace), () => {
    for (const [path, value] of host.sysctls) {
      echo?.(`[${host.namespace}] echo ${value} > /proc/sys/${path}`);
      try {
        writeFileSync(`/proc/sys/${path}`, value);
      } catch (error) {
        // A kernel without IPv6 has nothing to switch off.
        if (!path.startsWith('net/ipv6/')) throw error;
      }
    }
  });
}

async function settleHost(
  host: HostPlan,
  plan: LabPlan,
  present: ReadonlySet<string> | undefined,
  echo: Echo,
): Promise<void> {
  const devices = plan.links
    .flatMap(({ ends }) => ends)
    .filter((end) => end.host === host.host)
    .map((end) => end.interface);
  const lines = [
    'link set dev lo up',
    ...host.bridges.flatMap(({ name, ports, isolated }) => [
      // Multicast snooping would send queries of its own into the captures.
      ...(present?.has(name) ? [] : [`link add name ${name} type bridge mcast_snooping 0 forward_delay 0`]),
      ...ports.map((port) => `link set dev ${port} master ${name}`),
      ...isolated.map((port) => `link set dev ${port} type bridge_slave isolated on`),
      `link set dev ${name} mtu ${plan.mtu} up`,
    ]),
    ...devices.map((device) => `link set dev ${device} mtu ${plan.mtu} up`),
    ...host.addresses.map(([device, address]) => `addr replace ${address} dev ${device}`),
    ...host.routes.map((route) => `route replace ${route}`),
  ];
  await batch(lines, echo, ['-n', host.namespace]);
  if (present?.has(KERNEL_TUNNEL)) await moveKernelTunnel(host.namespace, echo);
  if (host.ruleset !== null)
    await runSuccessfully('ip', ['netns', 'exec', host.namespace, 'nft', '-f', '-'], {
      input: host.ruleset,
      echo,
    });
}

/** The module's own `tunl0` cannot be removed, but renamed; the agent's device of that name is not of its kind. */
async function moveKernelTunnel(namespace: string, echo: Echo): Promise<void> {
  const shown = await runProgram('ip', ['-n', namespace, '-json', '-d', 'link', 'show', KERNEL_TUNNEL]);
  const [entry] = JSON.parse(shown.stdout || '[]') as { linkinfo?: { info_kind?: string } }[];
  if (entry?.linkinfo?.info_kind !== 'ipip') return;
  await batch(
    [`link set ${KERNEL_TUNNEL} down`, `link set ${KERNEL_TUNNEL} name ${KERNEL_TUNNEL_ASIDE}`],
    echo,
    ['-n', namespace],
  );
}

async function batch(lines: readonly string[], echo: Echo, options: readonly string[] = []): Promise<void> {
  if (lines.length === 0) return;
  const args = [...options, '-batch', '-'];
  for (const line of lines) echo?.(`ip ${[...options, line].join(' ')}`);
  await runSuccessfully('ip', args, { input: `${lines.join('\n')}\n` });
}
