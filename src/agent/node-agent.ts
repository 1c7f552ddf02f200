/**
 * One node's agent: composition root and lifecycle.
 *
 * Theory of operation. Things start in an order in which each finds what it needs, and stop in reverse; if one
 * fails, those before it are stopped and the error goes to the caller:
 * 1. the lock: one agent per node on a host; 2. the status socket, which says `starting`;
 * 3. the datastore, and in it an address for this node; 4. the data plane, which makes the device, and the Node's
 *    registration, so that a node that cannot forward is nobody's next hop;
 * 5. the reconciler and the node keeper, which run until the signal.
 * Stopping leaves the persistent device and the routes: nothing leaks out unencapsulated while nobody reads the
 * device, and the next start resumes where this one ended. Where somebody deletes the device, everything begins anew in
 * the same process. What else ends an agent early (a worker that dies) ends it as a failure, for the supervisor to
 * start it anew.
 */
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { AddressAllocator } from '../control/address-allocator.ts';
import { Reconciler } from '../control/reconciler.ts';
import { requirePrograms } from '../host/commands.ts';
import { LinuxHostNetwork } from '../host/linux-host-network.ts';
import { readSysctl, SysctlMemory } from '../host/sysctl.ts';
import { flockLock } from '../io/file-lock.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { type Datastore, DatastoreUnavailableError } from '../store/datastore.ts';
import type { DataPlane, DataPlaneOptions } from './data-plane.ts';
import { FAST_PATH_STARTING } from './fast-path-state.ts';
import { collectGarbage } from './garbage.ts';
import { NodeKeeper } from './node-keeper.ts';
import { type AgentOptions, socketPath } from './options.ts';
import { register } from './registration.ts';
import { SENDER_STARTING } from './sender-state.ts';
import { AGENT_STATUS_VERSION, type AgentStatus } from './status.ts';
import { serveStatus } from './status-socket.ts';
import { Stoppers } from './stoppers.ts';

/** How soon an agent whose device was deleted begins anew. */
const RESTART_MS = 500;
/** How soon a datastore that does not answer at start is asked again. */
const DATASTORE_RETRY_MS = 500;
/** After the listing's changes are in force, until little is allocated. */
const REST_MS = 5_000;

/** The parts that the agent does not build itself. */
export interface AgentParts {
  readonly clock: Clock;
  readonly logger: Logger;
  openDatastore(): Promise<Datastore>;
  startDataPlane(options: DataPlaneOptions): Promise<DataPlane>;
  createAllocator(store: Datastore): AddressAllocator;
}

export function sysctlMemory(options: Pick<AgentOptions, 'runDirectory' | 'node'>): SysctlMemory {
  return new SysctlMemory(join(options.runDirectory, `node-${options.node}.sysctls.json`));
}

/** Runs until the signal aborts; resolves when everything is stopped. */
export async function runNodeAgent(
  options: AgentOptions,
  parts: AgentParts,
  signal: AbortSignal,
): Promise<void> {
  while (await runOnce(options, parts, signal)) await parts.clock.sleep(RESTART_MS, signal).catch(() => {});
}

/** Whether it is to begin anew. */
async function runOnce(options: AgentOptions, parts: AgentParts, signal: AbortSignal): Promise<boolean> {
  const agent = new NodeAgent(options, parts);
  let ran = false;
  try {
    await agent.start(signal);
    ran = true;
    await agent.untilStopped(signal);
    return false;
  } catch (error) {
    // Told to stop while it still waited for the datastore: that is no failure.
    if (signal.aborted && error === signal.reason) return false;
    const deviceIsGone = readSysctl(`net/ipv4/conf/${options.device}/forwarding`) === undefined;
    if (!ran || !deviceIsGone) throw error;
    parts.logger.error({ error, device: options.device }, 'the device was deleted: everything begins anew');
    return !signal.aborted;
  } finally {
    await agent.stop();
  }
}

class NodeAgent {
  readonly #options: AgentOptions;
  readonly #parts: AgentParts;
  readonly #startedAt: string;
  readonly #stoppers = new Stoppers();
  readonly #inner = new AbortController();
  #store: Datastore | undefined;
  #dataPlane: DataPlane | undefined;
  #reconciler: Reconciler | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #failure: Error | undefined;
  #startProblem: string | null = null;

  constructor(options: AgentOptions, parts: AgentParts) {
    this.#options = options;
    this.#parts = parts;
    this.#startedAt = new Date(parts.clock.wallMs()).toISOString();
  }

  async start(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#parts;
    signal.addEventListener('abort', () => this.#inner.abort(signal.reason), { once: true });
    mkdirSync(this.#options.runDirectory, { recursive: true, mode: 0o755 });
    this.#takeLock();
    await this.#serve();
    const host = new LinuxHostNetwork(sysctlMemory(this.#options));
    const [, facts, store] = await Promise.all([
      requirePrograms(),
      host.facts(),
      this.#parts.openDatastore(),
    ]);
    this.#store = store;
    this.#stoppers.add(() => store.close());
    const keeper = this.#createKeeper(store);
    const reconciler = new Reconciler({
      settings: this.#options,
      store,
      host,
      clock,
      logger,
      onView: (view, changes) => keeper.onView(view, changes),
      onResynced: () => this.#forgetListing(),
    });
    this.#reconciler = reconciler;
    let starting: Promise<DataPlane> | undefined;
    const takeDevice = () => (starting ??= this.#startDataPlane());
    const registration = {
      store,
      options: this.#options,
      facts,
      clock,
      logger,
      signal: this.#inner.signal,
      takeDevice,
      // All that the agent reads at its start is one listing.
      listNodes: async () => {
        await reconciler.list();
        return reconciler.view.nodes.values();
      },
    };
    const { revision } = await this.#whileDatastoreAway(() => register(registration));
    this.#running = Promise.all([
      reconciler.run(await takeDevice(), revision, this.#inner.signal),
      keeper.run(this.#inner.signal),
    ]).catch((error: Error) => this.#fail(error));
    logger.info({ device: this.#options.device, datastore: store.url }, 'the agent runs');
  }

  #createKeeper(store: Datastore): NodeKeeper {
    const { node, transport, udpPort } = this.#options;
    const { clock, logger } = this.#parts;
    return new NodeKeeper({
      node,
      udpPort: transport === 'ipip' ? null : udpPort,
      takesIpip: transport !== 'udp',
      store,
      allocator: this.#parts.createAllocator(store),
      clock,
      logger,
      onTunnelAddress: (address) => this.#reconciler?.setTunnelAddress(address),
    });
  }

  /** Resolves when the signal aborts. @throws what ended the agent early */
  async untilStopped(signal: AbortSignal): Promise<void> {
    if (!this.#inner.signal.aborted) await once(this.#inner.signal, 'abort');
    await this.#running;
    if (this.#failure && !signal.aborted) throw this.#failure;
  }

  async stop(): Promise<void> {
    this.#inner.abort();
    await this.#running.catch(() => {});
    await this.#stoppers.stop('agent', this.#parts.logger);
  }

  /** Now, since the listing was large, and when the agent has come to rest. */
  #forgetListing(): void {
    collectGarbage();
    const { signal } = this.#inner;
    this.#parts.clock.sleep(REST_MS, signal).then(collectGarbage, () => {});
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#inner.abort(error);
  }

  #takeLock(): void {
    const { runDirectory, node } = this.#options;
    const path = join(runDirectory, `node-${node}.lock`);
    const lock = flockLock.tryAcquire(path);
    if (!lock) {
      const holder = flockLock.holder(path) ?? 'another process';
      throw new UnavailableError(
        'ERR_AGENT_RUNNING',
        `node ${node} already has an agent on this host: ${holder}`,
        {
          hint: 'stop that one first, or run this one under another --name',
        },
      );
    }
    this.#stoppers.add(() => lock.release());
  }

  async #serve(): Promise<void> {
    const { runDirectory, node, metrics } = this.#options;
    this.#stoppers.add(
      await serveStatus({
        socket: socketPath(runDirectory, node),
        metrics,
        logger: this.#parts.logger,
        status: () => this.#status(),
      }),
    );
  }

  async #startDataPlane(): Promise<DataPlane> {
    const { device, transport, udpPort } = this.#options;
    const dataPlane = await this.#parts.startDataPlane({
      device,
      transport,
      udpPort,
      logger: this.#parts.logger,
      onExit: (error) => this.#fail(error),
    });
    this.#dataPlane = dataPlane;
    this.#stoppers.add(() => dataPlane.stop());
    return dataPlane;
  }

  /** A datastore that is away at start is waited for; the device and routes of an earlier agent stay meanwhile. */
  async #whileDatastoreAway<T>(attempt: () => Promise<T>): Promise<T> {
    const { clock, logger } = this.#parts;
    for (;;) {
      try {
        const result = await attempt();
        this.#startProblem = null;
        return result;
      } catch (error) {
        if (!(error instanceof DatastoreUnavailableError && error.retryable)) throw error;
        if (!this.#startProblem) logger.warn({ reason: error.message }, 'waiting for the datastore');
        this.#startProblem = `waiting for the datastore: ${error.message}`;
        await clock.sleep(DATASTORE_RETRY_MS, this.#inner.signal);
      }
    }
  }

  #status(): AgentStatus {
    const { node, device, transport } = this.#options;
    const control = this.#reconciler?.status();
    const view = this.#reconciler?.view;
    const self = view?.nodes.get(node);
    const names = new Map([...(view?.nodes.values() ?? [])].map((n) => [n.address?.address, n.name]));
    const transports = this.#reconciler?.transports() ?? new Map();
    const peers = (this.#dataPlane?.peers() ?? []).map((peer) => ({
      ...peer,
      node: names.get(peer.address) ?? null,
      address: formatIpv4(peer.address),
      transport: transports.get(peer.address) ?? 'none',
    }));
    const problems = this.#startProblem === null ? [] : [this.#startProblem];
    return {
      version: AGENT_STATUS_VERSION,
      node,
      pid: process.pid,
      state: control?.state ?? 'starting',
      revision: control?.revision ?? '',
      startedAt: this.#startedAt,
      address: self?.address ? formatIpv4(self.address.address) : null,
      tunnelAddress: typeof self?.tunnelAddress === 'number' ? formatIpv4(self.tunnelAddress) : null,
      device: { name: device, mtu: control?.mtu ?? null },
      transport,
      datastore: { url: this.#store?.url ?? '', ...(control?.datastore ?? { connected: false, why: null }) },
      entries: control?.entries ?? 0,
      routes: control?.routes ?? 0,
      peers,
      fastPath: this.#dataPlane?.fastPath?.() ?? FAST_PATH_STARTING,
      sender: this.#dataPlane?.sender?.() ?? SENDER_STARTING,
      queues: this.#dataPlane?.queues?.() ?? [],
      counters: this.#dataPlane?.counters() ?? {},
      warnings: [...problems, ...(control?.warnings ?? [])],
    };
  }
}
