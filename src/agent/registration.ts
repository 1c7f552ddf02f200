/** What the agent puts into the datastore when it starts, as calico/node does: cluster, default pool, its Node. */
import { randomBytes, randomUUID } from 'node:crypto';
import { type Clock, poll } from '../base/clock.ts';
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HostFacts } from '../control/ports.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { formatPrefix, type InterfaceAddress, parseInterfaceAddress } from '../ip/prefix.ts';
import { kindPrefix, resourceKey } from '../model/keys.ts';
import { API_VERSION, type Kind } from '../model/resources.ts';
import { isPlainObject, type PlainObject, rewriteStored } from '../model/rewrite.ts';
import { decodeStored } from '../model/stored.ts';
import {
  AlreadyExistsError,
  ConflictError,
  type Datastore,
  type Entry,
  NotFoundError,
  type Revision,
} from '../store/datastore.ts';
import { detectAddress, lengthOnInterface, unconfirmedWarning } from './autodetection.ts';
import { type AgentOptions, DEFAULT_POOL_BLOCK_SIZE, type DefaultPool } from './options.ts';

/** Calico's name for the pool that calico/node makes. */
const DEFAULT_POOL_NAME = 'default-ipv4-ippool';
const READY_POLL_MS = 500;

export interface Registration {
  readonly store: Datastore;
  readonly options: AgentOptions;
  readonly facts: HostFacts;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Every node of the datastore, ours too. */
  listNodes(): Promise<Iterable<{ readonly name: string; readonly address: InterfaceAddress | null }>>;
  /** Takes what the agent needs of the host: a node that cannot forward never shows up in the datastore. */
  takeDevice(): Promise<unknown>;
}

/** Gives the address that the Node resource has now, and the resource's revision. */
export async function register(
  r: Registration,
): Promise<{ readonly address: InterfaceAddress; readonly revision: Revision }> {
  const key = resourceKey('Node', r.options.node);
  const address = await chooseAddress(r, (await r.store.get(key))?.value);
  await refuseTakenAddress(r, address);
  await r.takeDevice();
  await ensureCluster(r);
  if (r.options.defaultPool) await ensureDefaultPool(r, r.options.defaultPool);
  const { revision } = await updateOrCreate(r, 'Node', r.options.node, (node) => withAddress(node, address));
  warnAbout(r, address);
  return { address, revision };
}

/** ClusterInformation is made once per cluster; `datastoreReady: false` in it means: wait. */
async function ensureCluster(r: Registration): Promise<void> {
  const key = resourceKey('ClusterInformation', 'default');
  if (!(await r.store.get(key)))
    await createIfAbsent(r, 'ClusterInformation', 'default', {
      clusterGUID: randomBytes(16).toString('hex'),
      datastoreReady: true,
    });
  let told = false;
  await poll(r.clock, Number.POSITIVE_INFINITY, READY_POLL_MS, async () => {
    r.signal.throwIfAborted();
    const entry = await r.store.get(key);
    const decoded = entry && decodeStored('ClusterInformation', entry.value);
    const ready = !decoded?.ok || decoded.resource.spec.datastoreReady !== false;
    if (!ready && !told) r.logger.warn({}, 'ClusterInformation says datastoreReady: false; waiting');
    told = !ready;
    return ready || undefined;
  });
}

async function ensureDefaultPool(r: Registration, pool: DefaultPool): Promise<void> {
  if ((await r.store.list(kindPrefix('IPPool'))).entries.length) return;
  const created = await createIfAbsent(r, 'IPPool', DEFAULT_POOL_NAME, {
    cidr: formatPrefix(pool.cidr),
    vxlanMode: 'Never',
    ipipMode: pool.ipipMode,
    natOutgoing: true,
    blockSize: DEFAULT_POOL_BLOCK_SIZE,
    nodeSelector: 'all()',
    allowedUses: ['Workload', 'Tunnel'],
    assignmentMode: 'Automatic',
  });
  if (created)
    r.logger.info({ cidr: formatPrefix(pool.cidr), mode: pool.ipipMode }, 'created the default pool');
}

async function chooseAddress(r: Registration, stored: string | undefined): Promise<InterfaceAddress> {
  const { address, method, device } = r.options;
  if (address.type === 'given') {
    const length = address.bare
      ? lengthOnInterface(r.facts, address.address.address)
      : address.address.length;
    return { address: address.address.address, length };
  }
  const decoded = stored === undefined ? undefined : decodeStored('Node', stored);
  const text = decoded?.ok ? decoded.resource.spec.bgp?.ipv4Address : undefined;
  const known = text === undefined ? undefined : parseInterfaceAddress(text);
  if (known && address.type === 'keep') return known;
  try {
    const found = await detectAddress(method, r.facts, device);
    r.logger.info(
      { address: formatPrefix(found), interface: found.device },
      'detected the address of this node',
    );
    return { address: found.address, length: found.length };
  } catch (error) {
    if (!known) throw error;
    r.logger.warn(
      { reason: (error as Error).message, address: text },
      'keeping the address of the Node resource',
    );
    return known;
  }
}

async function refuseTakenAddress(r: Registration, address: InterfaceAddress): Promise<void> {
  for (const { name: other, address: theirs } of await r.listNodes()) {
    if (other === r.options.node || theirs?.address !== address.address) continue;
    throw new UnavailableError(
      'ERR_NODE_ADDRESS_TAKEN',
      `IPv4 address ${formatIpv4(address.address)} is already in use by node ${other}`,
      { hint: `give this node another with --ip, or, if ${other} is gone: tortie delete node ${other}` },
    );
  }
}

function withAddress(node: PlainObject, address: InterfaceAddress): PlainObject {
  const spec = isPlainObject(node.spec) ? node.spec : {};
  const bgp = isPlainObject(spec.bgp) ? spec.bgp : {};
  return { ...node, spec: { ...spec, bgp: { ...bgp, ipv4Address: formatPrefix(address) } } };
}

function warnAbout(r: Registration, address: InterfaceAddress): void {
  const unconfirmed = unconfirmedWarning(r.facts, address.address);
  if (unconfirmed) r.logger.warn({}, unconfirmed);
  if (address.length === 32)
    r.logger.warn(
      { address: formatPrefix(address) },
      'this node is a /32: cross-subnet pools will encapsulate to every node; give its subnet with --ip ADDRESS/LENGTH',
    );
}

/** Changes a resource by compare-and-swap, creating it where it is missing; writes nothing where nothing changes. */
export async function updateOrCreate(
  r: Pick<Registration, 'store' | 'clock'>,
  kind: Kind,
  name: string,
  change: (object: PlainObject) => PlainObject,
): Promise<Entry> {
  const key = resourceKey(kind, name);
  for (;;) {
    const entry = await r.store.get(key);
    try {
      if (!entry)
        return await r.store.create(key, rewriteStored(newResource(r.clock, kind, name, {}), change));
      const value = rewriteStored(entry.value, change);
      return value === entry.value ? entry : await r.store.update(key, value, entry.revision);
    } catch (error) {
      if (!isRace(error)) throw error;
    }
  }
}

/** Somebody else wrote in between: read again and decide anew. */
function isRace(error: unknown): boolean {
  return (
    error instanceof AlreadyExistsError || error instanceof ConflictError || error instanceof NotFoundError
  );
}

async function createIfAbsent(
  r: Registration,
  kind: Kind,
  name: string,
  spec: PlainObject,
): Promise<boolean> {
  try {
    await r.store.create(resourceKey(kind, name), newResource(r.clock, kind, name, spec));
    return true;
  } catch (error) {
    if (error instanceof AlreadyExistsError) return false;
    throw error;
  }
}

/** As Calico stores it: uid and time of creation, seconds only; a Node has an empty status. */
function newResource(clock: Clock, kind: Kind, name: string, spec: PlainObject): string {
  const creationTimestamp = `${new Date(clock.wallMs()).toISOString().slice(0, 19)}Z`;
  return JSON.stringify({
    kind,
    apiVersion: API_VERSION,
    metadata: { name, uid: randomUUID(), creationTimestamp },
    spec,
    ...(kind === 'Node' ? { status: {} } : {}),
  });
}
