/**
 * `tortie workload attach|detach`: puts a network namespace behind a node. Theory of operation of attach:
 *   1. an address: the endpoint's own where it is attached already, else what the handle holds, else a new one;
 *   2. the link (host/workload-link.ts);
 *   3. the WorkloadEndpoint, from which the node's agent makes the route. What fails is undone in reverse.
 */
import { randomUUID } from 'node:crypto';
import { DEFAULT_DEVICE } from '../../agent/data-plane-settings.ts';
import { nodeNameOf } from '../../agent/options.ts';
import { systemClock } from '../../base/clock.ts';
import { FailedError, InvalidError, UsageError } from '../../base/errors.ts';
import { silentLogger } from '../../base/logger.ts';
import { systemRandom } from '../../base/random.ts';
import { type AddressAllocator, createAddressAllocator } from '../../control/address-allocator.ts';
import {
  attachLink,
  deleteLink,
  deviceMtu,
  namespacePath,
  smallestUnderlayMtu,
  WORKLOAD_INTERFACE,
  workloadInterfaceName,
} from '../../host/workload-link.ts';
import { formatIpv4, type Ipv4, parseIpv4 } from '../../ip/ipv4.ts';
import { overlayMtu, type UnderlayMtu } from '../../ip/mtu.ts';
import { nameProblem } from '../../model/metadata.ts';
import { API_VERSION, type WorkloadEndpoint } from '../../model/resources.ts';
import { workloadEndpointName } from '../../model/workload-endpoint-name.ts';
import type { Datastore } from '../../store/datastore.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDatastoreOptions, type DatastoreOptions, openFromOptions } from '../datastore-options.ts';
import { hasCode, ResourceClient } from '../resource-client.ts';

interface DetachOptions extends DatastoreOptions {
  readonly node?: string;
  readonly json?: true;
}

interface AttachOptions extends DetachOptions {
  readonly netns: string;
  readonly ip?: string;
  readonly device: string;
}

export async function run(argv: readonly string[]): Promise<number> {
  const command = newCommand('workload', 'Put network namespaces behind a node, and take them away');
  const attachCommand = command
    .command('attach')
    .description('Give a network namespace an address and a link to this node; again changes nothing')
    .argument('<name>', "the workload's name")
    .requiredOption('--netns <name|path>', 'its network namespace: a name of `ip netns`, or a path')
    .option('--node <node>', 'the node it is on (default: $NODENAME, else the host name)')
    .option('--ip <address>', 'this address and no other (default: the next free one)')
    .option('--device <name>', 'the tunnel device, whose MTU the link gets', DEFAULT_DEVICE)
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nExample:\n  $ ip netns add web; tortie workload attach web --netns web')
    .action(handler(attach));
  const detachCommand = command
    .command('detach')
    .description('Take a workload away: its endpoint, its link, its address')
    .argument('<name>', "the workload's name")
    .option('--node <node>', 'the node it is on (default: $NODENAME, else the host name)')
    .option('--json', 'print the result as JSON')
    .action(handler(detach));
  for (const each of [attachCommand, detachCommand]) addDatastoreOptions(each);
  return runCommand(command, argv);
}

/** What every step needs to know of one workload. */
interface Workload {
  readonly name: string;
  readonly node: string;
  readonly endpoint: string;
  readonly handle: string;
  readonly hostInterface: string;
  readonly client: ResourceClient;
  readonly allocator: AddressAllocator;
}

const NAMESPACE = 'default';

async function withWorkload(
  name: string,
  options: DetachOptions,
  use: (workload: Workload) => Promise<number>,
): Promise<number> {
  const node = nodeNameOf(options.node, process.env);
  const endpoint = workloadEndpointName({
    ...{ node, orchestrator: 'cni', containerID: name },
    endpoint: WORKLOAD_INTERFACE,
  });
  const problem = nameProblem(endpoint);
  if (problem) throw new InvalidError('ERR_WORKLOAD_NAME', `"${name}" cannot name a workload: ${problem}`);
  const store = await openFromOptions(options, process.env);
  try {
    return await use({ name, node, endpoint, ...partsOf(endpoint, store) });
  } finally {
    await store.close();
  }
}

function partsOf(endpoint: string, store: Datastore) {
  const handle = `${NAMESPACE}.${endpoint}`;
  return {
    handle,
    hostInterface: workloadInterfaceName(handle),
    client: new ResourceClient(store, { uid: randomUUID, now: () => new Date() }),
    allocator: createAddressAllocator({
      ...{ store, clock: systemClock, random: systemRandom },
      logger: silentLogger,
    }),
  };
}

async function attach(name: string, options: AttachOptions): Promise<number> {
  const wanted = options.ip === undefined ? undefined : parseIpv4(options.ip);
  if (options.ip !== undefined && wanted === undefined)
    throw new UsageError(`--ip: expected an IPv4 address, got "${options.ip}"`);
  const namespace = namespacePath(options.netns);
  return withWorkload(name, options, async (workload) => {
    const mtuFound = linkMtu(workload, options.device);
    // Looked up meanwhile; where that fails, it is told below, when there is something to undo.
    mtuFound.catch(() => {});
    const { address, undo } = await addressFor(workload, wanted);
    try {
      const mtu = await mtuFound;
      await attachLink({ hostInterface: workload.hostInterface, namespace, address, mtu });
      await writeEndpoint(workload, address);
      print(options, { name, ...facts(workload), address: formatIpv4(address), mtu }, 'Attached');
      return 0;
    } catch (error) {
      await undo();
      throw error;
    }
  });
}

/** `undo` gives back what was taken for this attachment only: it takes nothing from a workload that was attached. */
async function addressFor(
  workload: Workload,
  wanted: Ipv4 | undefined,
): Promise<{ address: Ipv4; undo: () => Promise<void> }> {
  const { name, node, handle, hostInterface, allocator } = workload;
  const attached = addressOf(await findEndpoint(workload));
  if (attached !== undefined && wanted !== undefined && attached !== wanted)
    throw new FailedError(
      'ERR_WORKLOAD_ATTACHED',
      `workload ${name} is attached to ${node} with ${formatIpv4(attached)}, not ${formatIpv4(wanted)}`,
      { hint: `tortie workload detach ${name} --node ${node}` },
    );
  const held = (await allocator.held(handle)).map(({ address }) => address);
  const address = attached ?? wanted ?? held[0];
  if (address !== undefined && held.includes(address)) return { address, undo: async () => {} };
  const attributes = { namespace: NAMESPACE, pod: name };
  const assigned = await allocator.assign({
    ...{ node, handle, attributes },
    ...(address !== undefined && { address }),
  });
  const undo = async () => {
    await deleteLink(hostInterface);
    await allocator.releaseAddress(assigned.address);
  };
  return { address: assigned.address, undo };
}

async function findEndpoint({ client, endpoint }: Workload): Promise<WorkloadEndpoint | undefined> {
  try {
    return await client.get({ kind: 'WorkloadEndpoint', name: endpoint, namespace: NAMESPACE });
  } catch (error) {
    if (hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) return undefined;
    throw error;
  }
}

function addressOf(endpoint: WorkloadEndpoint | undefined): Ipv4 | undefined {
  return parseIpv4(endpoint?.spec.ipNetworks?.[0]?.split('/')[0] ?? '');
}

/** As the tunnel device has it; before its agent ran, as the agent would choose it. */
async function linkMtu({ client, node }: Workload, device: string): Promise<number> {
  const present = await deviceMtu(device);
  if (present !== undefined) return present;
  const { resources } = await client.list('FelixConfiguration');
  const configured = [`node.${node}`, 'default'].map(
    (name) => resources.find(({ metadata }) => metadata.name === name)?.spec.ipipMTU,
  );
  const underlay = ((await smallestUnderlayMtu()) ?? 1500) as UnderlayMtu;
  return configured.find((mtu) => mtu) ?? overlayMtu(underlay, 'ipip');
}

async function writeEndpoint(workload: Workload, address: Ipv4): Promise<void> {
  const { client, name, node, endpoint, hostInterface } = workload;
  const before = await findEndpoint(workload);
  if (before?.spec.interfaceName === hostInterface && addressOf(before) === address) return;
  await client.initialize();
  await client.apply({
    kind: 'WorkloadEndpoint',
    apiVersion: API_VERSION,
    metadata: { name: endpoint, namespace: NAMESPACE },
    spec: {
      orchestrator: 'cni',
      node,
      containerID: name,
      endpoint: WORKLOAD_INTERFACE,
      ipNetworks: [`${formatIpv4(address)}/32`],
      interfaceName: hostInterface,
    },
  });
}

async function detach(name: string, options: DetachOptions): Promise<number> {
  return withWorkload(name, options, async (workload) => {
    const hadLink = await deleteLink(workload.hostInterface);
    const hadEndpoint = await deleteEndpoint(workload);
    const released = await workload.allocator.releaseByHandle(workload.handle);
    if (!hadLink && !hadEndpoint && released.length === 0)
      throw new FailedError('ERR_NO_WORKLOAD', `there is no workload ${name} on node ${workload.node}`, {
        hint: '`tortie get workloadendpoints` lists them; --node names another node',
      });
    const [address = null] = released.map(formatIpv4);
    print(options, { name, ...facts(workload), address }, 'Detached');
    return 0;
  });
}

async function deleteEndpoint({ client, endpoint }: Workload): Promise<boolean> {
  try {
    await client.delete({ kind: 'WorkloadEndpoint', name: endpoint, namespace: NAMESPACE });
    return true;
  } catch (error) {
    if (hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) return false;
    throw error;
  }
}

function facts({ node, hostInterface }: Workload) {
  return { node, interface: hostInterface };
}

function print(
  { json }: DetachOptions,
  result: { name: string; node: string; interface: string; address: string | null; mtu?: number },
  done: 'Attached' | 'Detached',
): void {
  const link = done === 'Attached' ? 'to' : 'from';
  const line = `${done} ${result.name} ${link} ${result.node}: ${result.address ?? 'no address'} on ${result.interface}`;
  process.stdout.write(`${json ? JSON.stringify(result) : line}\n`);
}
