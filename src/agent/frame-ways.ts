/**
 * Which peers may be reached by frames of our own, and how.
 *
 * Theory of operation. `withFrames` stands in front of a data plane and keeps the peers of its table. For each peer
 * of protocol 4 the kernel is asked for its route, as from our outer source, and for the Ethernet address of that
 * route's next hop; both are followed by rtnetlink, REST_MS together. A peer for which either is missing, that
 * leaves by a device without Ethernet addresses, or whose route sets an MTU, which frames would not heed, goes by the
 * raw socket. All do where a chain of the firewall or an IPsec policy has a say about them, and until that is known
 * (firewall-judge.ts): at the start, and after each change of either. Frames are never needed, only faster.
 */
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { FrameWay } from '../dataplane/frame-table.ts';
import type { ForwardingChange, ForwardingConfig, Peer } from '../fib/forwarding-config.ts';
import { watchReadable } from '../io/readiness.ts';
import { openRouteLookup, type RouteLookup } from '../io/route-lookup.ts';
import { dumpTable, openNeighbourSocket, type RouteSocket } from '../io/route-socket.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import { decodeNetlink } from '../wire/rtnetlink.ts';
import type { DataPlane } from './data-plane.ts';
import type { SenderMode } from './data-plane-settings.ts';
import { FirewallJudge, type FirewallQuestion, hostFirewall, judgeAtFirst } from './firewall-judge.ts';
import type { SenderState } from './sender-state.ts';

/** What the kernel tells within this time is looked at together; nothing wakes us where it says nothing. */
const REST_MS = 100;
/** Routes that this program and Felix set concern inner packets. */
const INNER_ROUTE_PROTOCOLS = [80, 84];
/** Neighbours of a large network come and go all the time. */
const NEIGHBOURS_MS = 500;
/** So many routes are asked for in some 10 ms; a node with more peers has no few that get most of its packets. */
const FRAME_PEERS_MAX = 1000;
const NO_MAC = '00:00:00:00:00:00';
const ETHERTYPE_IPV4_BYTES = [0x08, 0x00];

/** What has changed since we looked, the lesser of which asks for less. */
type News = 'routes' | 'neighbours' | null;

export interface FrameOptions {
  readonly mode: SenderMode;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly logger: Logger;
  /** The outer source where it is fixed. */
  readonly local?: Ipv4 | null;
}

/** @throws UnavailableError where frames were insisted on and something of the host has a say about outer packets */
export async function withFrames(plane: DataPlane, options: FrameOptions): Promise<DataPlane> {
  const { mode } = options;
  const none = withoutFrames(options, plane.setFrameWays !== undefined);
  if (none !== null) return tellingSender(plane, { mode, framedPeers: 0, why: none });
  try {
    if (mode === 'packet') await requireNoObstacle(plane.device.name, options.local ?? null);
    return new FramedDataPlane(plane, options);
  } catch (error) {
    if (mode === 'packet') {
      await plane.stop();
      throw error;
    }
    const why = (error as Error).message;
    options.logger.warn({}, `outer packets go by raw sockets: ${why}`);
    return tellingSender(plane, { mode, framedPeers: 0, why });
  }
}

/** Frames are sent in the namespace that this process is in. */
function questionOf(tunnelDevice: string): FirewallQuestion {
  return { firewall: hostFirewall(tunnelDevice), enter: (fn) => fn() };
}

async function requireNoObstacle(tunnelDevice: string, local: Ipv4 | null): Promise<void> {
  const { verdict } = await judgeAtFirst(questionOf(tunnelDevice), local);
  if (verdict.outbound !== null)
    throw new UnavailableError('ERR_SENDER', `--sender packet would go around ${verdict.outbound}`, {
      hint: 'use --sender auto, which sends by raw sockets then, or take it away',
    });
}

/** Why there will never be frames; null where there may be. */
function withoutFrames({ mode, transport }: FrameOptions, offered: boolean): string | null {
  if (mode === 'raw') return 'as asked for (--sender raw)';
  if (transport === 'udp') return 'the udp transport has no use for frames';
  return offered ? null : 'the packet socket was refused';
}

function tellingSender(plane: DataPlane, state: SenderState): DataPlane {
  return Object.assign(plane, { sender: () => state });
}

class FramedDataPlane implements DataPlane {
  readonly device: DataPlane['device'];
  readonly #plane: DataPlane;
  readonly #options: FrameOptions;
  readonly #lookup: RouteLookup = openRouteLookup();
  readonly #events: RouteSocket = openNeighbourSocket();
  readonly #firewall: FirewallJudge;
  readonly #peers = new Map<Ipv4, Peer>();
  #outerSource: Ipv4 | null = null;
  /** Why ways are not followed any more; null while they are. */
  #lost: string | null = null;
  #tooMany = false;
  /** Of each peer: the device and the next hop on it. */
  #routes = new Map<Ipv4, { readonly device: number; readonly hop: Ipv4 }>();
  /** What there is to do in the next tick. */
  #moved: News = null;
  #lookedMs = 0;
  #framedPeers = 0;
  #said = '';
  #laid = '';
  #laying: Promise<void> = Promise.resolve();
  readonly #watch: { stop(): Promise<void> };
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(plane: DataPlane, options: FrameOptions) {
    this.device = plane.device;
    this.#plane = plane;
    this.#options = options;
    this.#firewall = new FirewallJudge({
      ...questionOf(plane.device.name),
      unread: 'forbids',
      onVerdict: () => this.#lay(),
    });
    this.#watch = watchReadable(this.#events.fd, () => this.#tick(), REST_MS);
  }

  get revision(): number {
    return this.#plane.revision;
  }

  async replace(config: ForwardingConfig): Promise<void> {
    await this.#plane.replace(config);
    this.#outerSource = config.outerSource;
    this.#peers.clear();
    for (const peer of config.peers) this.#peers.set(peer.address, peer);
    this.#moved = 'routes';
    this.#plan();
  }

  async change(change: ForwardingChange): Promise<'applied' | 'gap'> {
    const result = await this.#plane.change(change);
    if (result === 'gap') return result;
    for (const operation of change.operations) {
      if (['set-peer', 'delete-peer', 'set-local'].includes(operation.op)) this.#moved = 'routes';
      if (operation.op === 'set-peer') this.#peers.set(operation.peer.address, operation.peer);
      else if (operation.op === 'delete-peer') this.#peers.delete(operation.address);
      else if (operation.op === 'set-local') this.#outerSource = operation.outerSource;
    }
    this.#plan();
    return result;
  }

  sender(): SenderState {
    return { mode: this.#options.mode, framedPeers: this.#framedPeers, why: this.#whyNot() };
  }

  queues(): readonly number[] {
    return this.#plane.queues?.() ?? [];
  }

  icmpErrors(): number {
    return this.#plane.icmpErrors();
  }

  counters(): Record<string, number> {
    return this.#plane.counters();
  }

  peers(): ReturnType<DataPlane['peers']> {
    return this.#plane.peers();
  }

  async stop(): Promise<void> {
    this.#end();
    await this.#watch.stop();
    await this.#laying;
    await this.#plane.stop();
    for (const part of [this.#lookup, this.#events]) part.close();
  }

  #findRoutes(): void {
    this.#routes = new Map();
    const source = this.#outerSource;
    const peers = [...this.#peers.values()].filter(({ transport }) => transport === 'ipip');
    this.#tooMany = peers.length > FRAME_PEERS_MAX;
    if (source === null || this.#tooMany) return;
    for (const { address } of peers) {
      const { device, hop, mtu } = this.#lookup.wayTo(address, source);
      if (device > 0 && device !== this.device.index && mtu === 0 && hop !== null)
        this.#routes.set(address, { device, hop });
    }
  }

  /** Tells the outbound thread what has changed, and people. */
  #lay(): void {
    const ways = this.#forbidden() === null ? this.#ways() : [];
    this.#framedPeers = ways.length;
    const laid = JSON.stringify(
      ways.map(({ peer, interfaceIndex, header }) => [peer, interfaceIndex, ...header]),
    );
    if (laid !== this.#laid) {
      this.#laid = laid;
      this.#laying = this.#plane.setFrameWays!(ways).catch(() => {
        // The plane says itself that a thread is gone.
      });
    }
    this.#say();
  }

  #ways(): FrameWay[] {
    if (this.#routes.size === 0) return [];
    const own = new Map<number, string>();
    dumpTable('links', (message) => {
      if (message.kind === 'link' && message.running && message.mac !== '' && message.mac !== NO_MAC)
        own.set(message.index, message.mac);
    });
    const macs = new Map<string, string>();
    dumpTable('neighbours', (message) => {
      if (message.kind === 'neighbour' && message.mac !== null)
        macs.set(`${message.interfaceIndex} ${message.address}`, message.mac);
    });
    return [...this.#routes].flatMap(([peer, { device, hop }]) => {
      const to = macs.get(`${device} ${hop}`);
      const from = own.get(device);
      if (to === undefined || from === undefined) return [];
      const header = Uint8Array.from([...macBytes(to), ...macBytes(from), ...ETHERTYPE_IPV4_BYTES]);
      return [{ peer, interfaceIndex: device, header }];
    });
  }

  #whyNot(): string | null {
    if (this.#outerSource === null) return 'no outer source is set';
    return this.#tooMany ? `frames are for up to ${FRAME_PEERS_MAX} peers` : this.#forbidden();
  }

  /** Why the host forbids frames, or might; null where it does not. */
  #forbidden(): string | null {
    if (this.#lost !== null) return `what concerns them cannot be followed: ${this.#lost}`;
    const obstacle = this.#firewall.verdict.outbound;
    return obstacle === null ? null : `frames would go around ${obstacle}`;
  }

  #say(): void {
    const why = this.#whyNot();
    const ways = this.#framedPeers;
    const said = why ?? (ways > 0 ? 'frames' : 'nobody yet');
    // That nothing is known yet is soon over.
    const passes = this.#lost === null && this.#firewall.isUnread && why === this.#forbidden();
    if (said === this.#said || passes) return;
    this.#said = said;
    const { logger } = this.#options;
    if (why !== null) logger.info({}, `outer packets go by raw sockets: ${why}`);
    else if (ways > 0) logger.info({ peers: ways }, 'outer packets go as frames, past the IP output');
  }

  /** What waits for a look gets it soon. */
  #plan(): void {
    if (this.#ended || this.#moved === null) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#tick();
    }, REST_MS).unref();
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#firewall.close();
  }

  #tick(): void {
    if (this.#ended) return;
    try {
      this.#readEvents();
      if (this.#moved === 'routes' || performance.now() - this.#lookedMs >= NEIGHBOURS_MS) this.#look();
    } catch (error) {
      this.#lost = (error as Error).message;
      this.#end();
      void this.#watch.stop();
      this.#lay();
      return;
    }
    this.#plan();
  }

  #look(): void {
    const moved = this.#moved;
    if (moved === null) return;
    this.#moved = null;
    this.#lookedMs = performance.now();
    if (this.#outerSource !== null && this.#peers.size > 0)
      this.#firewall.setOwn({ outbound: [this.#outerSource], inbound: [] });
    if (moved === 'routes') this.#findRoutes();
    this.#lay();
  }

  #readEvents(): void {
    for (let event = this.#events.receive(); event !== null; event = this.#events.receive()) {
      if (event === 'lost') this.#moved = 'routes';
      else
        for (const message of decodeNetlink(event.bytes, event.offset, event.length)) {
          const inner = message.kind === 'route' && INNER_ROUTE_PROTOCOLS.includes(message.protocol);
          if (message.kind === 'neighbour') this.#moved ??= 'neighbours';
          else if (!inner) this.#moved = 'routes';
        }
    }
  }
}

function macBytes(mac: string): number[] {
  return mac.split(':').map((part) => Number.parseInt(part, 16));
}
