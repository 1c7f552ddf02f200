/**
 * `tortie tunnel run`: the device alone, for whoever puts routes on it. Composition root and lifecycle.
 *
 * Theory of operation. The device gets its carrier when the data plane opens it, and keeps its routes when we
 * stop. While the packet threads start, the kernel's tables are dumped and followed. From then on:
 *
 *     rtnetlink -> RouteFollower -> RouteForwarding (marks, compares) -> TableLaying -> DataPlane
 *
 * A status first reads what the kernel has said and waits until it is in force, so whoever put a route and then asks
 * sees it. The device is followed by its index, so a new name does not matter. Where it is deleted the packet threads end, and the data plane is started
 * again, which makes the device anew; whoever owns the routes puts them back.
 */
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { KernelChange, KernelTables } from '../control/kernel-tables.ts';
import { RouteForwarding } from '../control/route-forwarding.ts';
import { output } from '../host/commands.ts';
import { RouteFollower } from '../host/route-follower.ts';
import { readSysctl, writeSysctl } from '../host/sysctl.ts';
import { formatIpv4 } from '../ip/ipv4.ts';
import { type OverlayMtu, overlayMtu, type UnderlayMtu } from '../ip/mtu.ts';
import { formatPrefix } from '../ip/prefix.ts';
import type { DataPlane, DataPlaneOptions } from './data-plane.ts';
import { FAST_PATH_STARTING } from './fast-path-state.ts';
import { RouteGuard } from './route-guard.ts';
import { SENDER_STARTING } from './sender-state.ts';
import { type PeerStatus, TUNNEL_STATUS_VERSION, type TunnelStatus } from './status.ts';
import { serveStatus } from './status-socket.ts';
import { Stoppers } from './stoppers.ts';
import { TableLaying } from './table-laying.ts';
import { takeTunnelLock } from './tunnel-lock.ts';
import { type TunnelOptions, tunnelGuardFile, tunnelSocketPath } from './tunnel-options.ts';
import { tunnelWarnings } from './tunnel-warnings.ts';

/** How soon a data plane that ended is started again. */
const RESTART_MS = 500;
/** So long a status waits for the changes before it; a dump that is due comes within a second. */
const CATCH_UP_MS = 2_000;
/** Where the underlay is not known yet: what Calico sets for 1500. */
const USUAL_OVERLAY_MTU = 1480;

export interface TunnelParts {
  readonly clock: Clock;
  readonly logger: Logger;
  startDataPlane(options: DataPlaneOptions): Promise<DataPlane>;
  /** The device has its carrier, and the routes put before are in force. */
  ready(): void;
}

/** Runs until the signal aborts; resolves when everything is stopped. */
export async function runTunnel(
  options: TunnelOptions,
  parts: TunnelParts,
  signal: AbortSignal,
): Promise<void> {
  const tunnel = new Tunnel(options, parts, signal);
  try {
    await tunnel.start();
    parts.ready();
    await tunnel.untilStopped();
  } finally {
    await tunnel.stop();
  }
}

class Tunnel {
  readonly #options: TunnelOptions;
  readonly #parts: TunnelParts;
  readonly #signal: AbortSignal;
  readonly #startedAt: string;
  readonly #stoppers = new Stoppers();
  readonly #forwarding: RouteForwarding;
  readonly #follower: RouteFollower;
  readonly #table: TableLaying;
  readonly #guard: RouteGuard;
  #dataPlane: DataPlane | undefined;
  #restarting: Promise<void> = Promise.resolve();
  #problem: string | null = null;

  constructor(options: TunnelOptions, parts: TunnelParts, signal: AbortSignal) {
    this.#options = options;
    this.#parts = parts;
    this.#signal = signal;
    this.#startedAt = new Date(parts.clock.wallMs()).toISOString();
    this.#forwarding = new RouteForwarding({
      local: options.local,
      allow: options.allow,
      transport: options.transport === 'udp' ? 'udp' : 'ipip',
      udpPort: options.udpPort,
    });
    this.#table = new TableLaying({
      forwarding: this.#forwarding,
      clock: parts.clock,
      logger: parts.logger,
    });
    this.#guard = new RouteGuard({
      prefixes: options.guard,
      file: tunnelGuardFile(options.runDirectory, options.device),
      logger: parts.logger,
    });
    this.#follower = new RouteFollower({
      clock: parts.clock,
      logger: parts.logger,
      onTables: (tables) => this.#onTables(tables),
      onChanges: (changes) => this.#onChanges(changes),
    });
    this.#stoppers.add(() => this.#follower.stop());
  }

  async start(): Promise<void> {
    mkdirSync(this.#options.runDirectory, { recursive: true, mode: 0o755 });
    const lock = takeTunnelLock(this.#options.runDirectory, this.#options.device);
    this.#stoppers.add(() => lock.release());
    this.#guard.start();
    await this.#serve();
    this.#stoppers.add(() => {
      const dataPlane = this.#dataPlane;
      this.#release();
      return dataPlane?.stop();
    });
    await this.#startDataPlane(() => {
      this.#follower.start();
      // The device is there already, and what its routes come to can be found out while the threads start.
      const index = this.#forwarding.linkNamed(this.#options.device)?.index;
      if (index === undefined) return;
      this.#forwarding.setDevice(index);
      this.#forwarding.drain();
    });
  }

  async untilStopped(): Promise<void> {
    if (!this.#signal.aborted) await once(this.#signal, 'abort');
  }

  async stop(): Promise<void> {
    await this.#restarting;
    await this.#stoppers.stop('tunnel', this.#parts.logger);
  }

  async #serve(): Promise<void> {
    const { runDirectory, device, metrics } = this.#options;
    this.#stoppers.add(
      await serveStatus({
        socket: tunnelSocketPath(runDirectory, device),
        metrics,
        logger: this.#parts.logger,
        status: async () => this.#status(await this.#caughtUp()),
      }),
    );
  }

  /** `meanwhile` is done while the packet threads start. */
  async #startDataPlane(meanwhile: () => void = () => {}): Promise<void> {
    const { device, transport, udpPort } = this.#options;
    const { logger } = this.#parts;
    const adopted = readSysctl(`net/ipv4/conf/${device}/rp_filter`) !== undefined;
    let ended: Error | undefined;
    let dataPlane: DataPlane | undefined;
    const starting = this.#parts.startDataPlane({
      device,
      transport,
      udpPort,
      logger,
      holdUnrouted: true,
      onExit: (error) => {
        ended = error;
        if (dataPlane && dataPlane === this.#dataPlane) this.#restarting = this.#restart(dataPlane, error);
      },
    });
    try {
      meanwhile();
      dataPlane = await starting;
      await this.#setUp(dataPlane, adopted);
      if (ended) throw ended;
    } catch (error) {
      await (await starting.catch(() => undefined))?.stop();
      throw error;
    }
    const { entryCount, routeCount } = this.#forwarding;
    logger.info({ device, adopted, entries: entryCount, routes: routeCount }, 'the tunnel runs');
    this.#dataPlane = dataPlane;
    this.#table.begin(dataPlane);
  }

  #release(): void {
    this.#dataPlane = undefined;
    this.#table.end();
  }

  async #setUp(dataPlane: DataPlane, adopted: boolean): Promise<void> {
    const { mtu } = this.#options;
    this.#forwarding.setDevice(dataPlane.device.index);
    await this.#table.replace(dataPlane);
    if (mtu !== null) await this.#setMtu(mtu);
    else if (!adopted) await this.#setMtu(this.#automaticMtu());
    this.#loosenReversePathFilter();
  }

  /** A packet thread ended, most likely because the device was deleted. */
  async #restart(ended: DataPlane, error: Error): Promise<void> {
    const { clock, logger } = this.#parts;
    this.#problem = error.message;
    logger.error({ error }, 'the data plane ended and is started again');
    this.#release();
    await ended.stop();
    while (!this.#signal.aborted) {
      try {
        await clock.sleep(RESTART_MS, this.#signal);
        await this.#startDataPlane();
        this.#problem = null;
        return;
      } catch (failure) {
        if (this.#signal.aborted) return;
        this.#problem = (failure as Error).message;
        logger.error({ error: failure }, 'the data plane does not start');
      }
    }
  }

  #automaticMtu(): number {
    const underlay = this.#forwarding.defaultMtu();
    const transport = this.#options.transport === 'ipip' ? 'ipip' : 'udp';
    return underlay === undefined
      ? USUAL_OVERLAY_MTU
      : (overlayMtu(underlay as UnderlayMtu, transport) satisfies OverlayMtu);
  }

  async #setMtu(mtu: number): Promise<void> {
    await output(['ip', 'link', 'set', 'dev', this.#options.device, 'mtu', String(mtu)]);
  }

  /** Best effort: in a container /proc/sys may be read-only, and then the status warns. */
  #loosenReversePathFilter(): void {
    const name = `net/ipv4/conf/${this.#options.device}/rp_filter`;
    try {
      writeSysctl(name, '2');
    } catch (error) {
      this.#parts.logger.warn({ error }, `${name} could not be set to 2`);
    }
  }

  #onTables(tables: KernelTables): void {
    this.#guard.compare(tables);
    this.#forwarding.replace(tables);
    this.#table.lay();
  }

  #onChanges(changes: readonly KernelChange[]): void {
    this.#guard.hear(changes);
    for (const change of changes) if (this.#forwarding.apply(change) === 'drifted') this.#follower.doubt();
    this.#table.lay();
  }

  /** What the kernel has said by now is in force when this resolves; false where that takes too long. */
  async #caughtUp(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), CATCH_UP_MS);
    });
    const caughtUp = this.#follower.catchUp().then(async () => {
      await this.#table.laid();
      return true;
    });
    try {
      return await Promise.race([caughtUp, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #status(caughtUp: boolean): TunnelStatus {
    const { device: wanted, local, transport } = this.#options;
    const dataPlane = this.#dataPlane;
    const link = dataPlane && this.#forwarding.link(dataPlane.device.index);
    const counters = dataPlane?.counters() ?? {};
    const warnings = tunnelWarnings({
      wanted,
      caughtUp,
      device: link,
      underlay: this.#forwarding.underlayLinks(),
      disputed: this.#forwarding.disputed(),
      unsendable: transport === 'udp' ? this.#forwarding.withoutGateway() : [],
      cutOff: this.#forwarding.cutOffBy(this.#options.guard),
      looped: counters.outbound_drop_loop_nested_packets ?? 0,
    });
    return {
      version: TUNNEL_STATUS_VERSION,
      pid: process.pid,
      state: dataPlane && link ? 'running' : this.#problem ? 'degraded' : 'starting',
      startedAt: this.#startedAt,
      device: {
        name: link?.name ?? wanted,
        wanted,
        index: link?.index ?? null,
        mtu: link?.mtu ?? null,
        up: link?.up ?? false,
        carrier: link?.running ?? false,
      },
      local: local === null ? null : formatIpv4(local),
      transport,
      guard: this.#options.guard.map(formatPrefix),
      routes: this.#forwarding.routeCount,
      entries: this.#forwarding.entryCount,
      revision: dataPlane?.revision ?? 0,
      lastChange: this.#table.lastChange,
      dumps: this.#follower.dumps,
      overruns: this.#follower.overruns,
      peers: this.#peers(),
      fastPath: dataPlane?.fastPath?.() ?? FAST_PATH_STARTING,
      sender: dataPlane?.sender?.() ?? SENDER_STARTING,
      queues: dataPlane?.queues?.() ?? [],
      counters,
      warnings: this.#problem ? [this.#problem, ...warnings] : warnings,
    };
  }

  /** Those that we send to, and of the others those that we heard from. */
  #peers(): PeerStatus[] {
    return (this.#dataPlane?.peers() ?? []).flatMap((counters) => {
      const transport = this.#forwarding.peer(counters.address)?.transport;
      const idle = counters.inboundPackets + counters.inboundDrops === 0;
      return transport === undefined || (transport === 'none' && idle)
        ? []
        : [{ ...counters, address: formatIpv4(counters.address), transport }];
    });
  }
}
