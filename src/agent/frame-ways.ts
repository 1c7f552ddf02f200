/**
 * Which peers may be reached by frames of our own, and how.
 *
 * Theory of operation. `withFrames` stands in front of a data plane and keeps the peers of its table. For each peer
 * of protocol 4 the kernel is asked for its route, as from our outer source, and for the Ethernet address of that
 * route's next hop; both are followed by rtnetlink, REST_MS together. A peer for which either is missing, that
 * leaves by a device without Ethernet addresses, or whose route sets an MTU, which frames would not heed, goes by the
 * raw socket. All do where a chain of the firewall or an IPsec policy has a say about them, and until that is known:
 * at the start, and after each change of the firewall. Frames are never needed, only faster.
 */
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { FrameWay } from '../dataplane/frame-table.ts';
import type { ForwardingChange, ForwardingConfig, Peer } from '../fib/forwarding-config.ts';
import { hasIpsecPolicies } from '../host/ipsec.ts';
import { type OuterFirewall, readOuterFirewall } from '../host/outer-firewall.ts';
import { watchReadable } from '../io/readiness.ts';
import { openRouteLookup, type RouteLookup } from '../io/route-lookup.ts';
import { dumpTable, openFirewallSocket, openNeighbourSocket, type RouteSocket } from '../io/route-socket.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import { decodeNetlink } from '../wire/rtnetlink.ts';
import type { DataPlane } from './data-plane.ts';
import { legacyTables } from './legacy-tables.ts';
import type { SenderMode } from './options.ts';
import type { SenderState } from './sender-state.ts';

/** What the kernel tells within this time is looked at together; nothing wakes us where it says nothing. */
const REST_MS = 100;
/** The firewall, and IPsec, of which nobody tells us, are judged this often at most, and at least. */
const JUDGE_MIN_MS = 1000;
const JUDGE_MAX_MS = 30_000;
/** Routes that this program and Felix set concern inner packets. */
const INNER_ROUTE_PROTOCOLS = [80, 84];
/** Neighbours of a large network come and go all the time. */
const NEIGHBOURS_MS = 500;
/** So many routes are asked for in some 10 ms; a node with more peers has no few that get most of its packets. */
const FRAME_PEERS_MAX = 1000;
const NOT_READ = 'the firewall, or a change of it, has not been read yet';
const NO_MAC = '00:00:00:00:00:00';
const ETHERTYPE_IPV4_BYTES = [0x08, 0x00];

/** What has changed since we looked, the lesser of which asks for less. */
type News = 'routes' | 'neighbours' | null;

export interface FrameOptions {
  readonly mode: SenderMode;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly logger: Logger;
}

/** @throws UnavailableError where frames were insisted on and something of the host has a say about outer packets */
export async function withFrames(plane: DataPlane, options: FrameOptions): Promise<DataPlane> {
  const { mode } = options;
  const none = withoutFrames(options, plane.setFrameWays !== undefined);
  if (none !== null) return tellingSender(plane, { mode, framedPeers: 0, why: none });
  try {
    if (mode === 'packet') await requireNoObstacle(plane.device.name);
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

async function requireNoObstacle(tunnelDevice: string): Promise<void> {
  const obstacle = await obstacleOf(tunnelDevice);
  if (obstacle !== null)
    throw new UnavailableError('ERR_SENDER', `--sender packet would go around ${obstacle}`, {
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

/** What would be gone around, in words; null where there is nothing. */
async function obstacleOf(tunnelDevice: string): Promise<string | null> {
  const firewall: OuterFirewall = await readOuterFirewall({ legacyTables: legacyTables(), tunnelDevice });
  if (firewall.outbound !== null) return `a chain of the host's firewall: ${firewall.outbound}`;
  return (await hasIpsecPolicies()) ? "the host's IPsec policies" : null;
}

class FramedDataPlane implements DataPlane {
  readonly device: DataPlane['device'];
  readonly #plane: DataPlane;
  readonly #options: FrameOptions;
  readonly #lookup: RouteLookup = openRouteLookup();
  readonly #events: RouteSocket = openNeighbourSocket();
  readonly #rules: RouteSocket = openFirewallSocket();
  readonly #peers = new Map<Ipv4, Peer>();
  #outerSource: Ipv4 | null = null;
  /** Why the host forbids frames, or might; null where it does not. */
  #forbidden: string | null = NOT_READ;
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
  #rulesChanged = false;
  #judging = false;
  #judgedMs = Number.NEGATIVE_INFINITY;
  readonly #watches: readonly { stop(): Promise<void> }[];
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(plane: DataPlane, options: FrameOptions) {
    this.device = plane.device;
    this.#plane = plane;
    this.#options = options;
    this.#watches = [this.#events, this.#rules].map(({ fd }) =>
      watchReadable(fd, () => this.#tick(), REST_MS),
    );
    this.#plan();
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
    if (this.#moved !== null) this.#plan();
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
    await Promise.all(this.#watches.map((watch) => watch.stop()));
    await this.#laying;
    await this.#plane.stop();
    for (const part of [this.#lookup, this.#events, this.#rules]) part.close();
  }

  #findRoutes(): void {
    this.#routes = new Map();
    const source = this.#outerSource;
    const peers = [...this.#peers.values()].filter(({ transport }) => transport === 'ipip');
    this.#tooMany = peers.length > FRAME_PEERS_MAX;
    if (source === null || this.#tooMany) return;
    for (const { address } of peers) {
      const { device, gateway, mtu } = this.#lookup.wayTo(address, source);
      if (device > 0 && device !== this.device.index && mtu === 0)
        this.#routes.set(address, { device, hop: gateway ?? address });
    }
  }

  /** Tells the outbound thread what has changed. */
  #lay(): void {
    const ways = this.#forbidden === null ? this.#ways() : [];
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
    return this.#tooMany ? `frames are for up to ${FRAME_PEERS_MAX} peers` : this.#forbidden;
  }

  #say(): void {
    const why = this.#whyNot();
    const ways = this.#framedPeers;
    const said = why ?? (ways > 0 ? 'frames' : 'nobody yet');
    if (said === this.#said || why === NOT_READ) return;
    this.#said = said;
    const { logger } = this.#options;
    if (why !== null) logger.info({}, `outer packets go by raw sockets: ${why}`);
    else if (ways > 0) logger.info({ peers: ways }, 'outer packets go as frames, past the IP output');
  }

  /** The next look: soon where something waits for one, else when it is time to judge again. */
  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#ended) return;
    const waits = this.#moved !== null || (this.#rulesChanged && this.#peers.size > 0);
    this.#timer = setTimeout(() => this.#tick(), waits ? REST_MS : JUDGE_MAX_MS);
    this.#timer.unref();
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #tick(): void {
    if (this.#ended) return;
    try {
      this.#readEvents();
      if (this.#moved === 'routes' || performance.now() - this.#lookedMs >= NEIGHBOURS_MS) this.#look();
      while (this.#rules.receive() !== null) this.#rulesChanged = true;
    } catch (error) {
      this.#forbidden = `what concerns them cannot be followed: ${(error as Error).message}`;
      this.#end();
      for (const watch of this.#watches) void watch.stop();
      this.#lay();
      this.#say();
      return;
    }
    // The new rule may be meant for us; the chains are read when the changes leave time for it.
    if (this.#rulesChanged && this.#forbidden === null) {
      this.#forbidden = NOT_READ;
      this.#lay();
    }
    const sinceMs = performance.now() - this.#judgedMs;
    const due = sinceMs >= (this.#rulesChanged ? JUDGE_MIN_MS : JUDGE_MAX_MS);
    if (due && !this.#judging && this.#peers.size > 0) void this.#judge();
    else this.#plan();
  }

  #look(): void {
    const moved = this.#moved;
    if (moved === null) return;
    this.#moved = null;
    this.#lookedMs = performance.now();
    if (moved === 'routes') this.#findRoutes();
    this.#lay();
    this.#say();
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

  async #judge(): Promise<void> {
    this.#judging = true;
    this.#rulesChanged = false;
    let forbidden: string | null;
    try {
      const obstacle = await obstacleOf(this.device.name);
      forbidden = obstacle === null ? null : `frames would go around ${obstacle}`;
    } catch (error) {
      forbidden = `whether frames would go around something cannot be read: ${(error as Error).message}`;
    }
    this.#judging = false;
    this.#judgedMs = performance.now();
    // What changed while it was read is read next.
    if (!this.#rulesChanged) {
      this.#forbidden = forbidden;
      this.#lay();
      this.#say();
    }
    this.#plan();
  }
}

function macBytes(mac: string): number[] {
  return mac.split(':').map((part) => Number.parseInt(part, 16));
}
