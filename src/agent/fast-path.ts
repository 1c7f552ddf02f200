/**
 * The fast path of one device: the two programs, their maps, what they hang on, and when they must not run.
 *
 * Theory of operation. `withFastPath` puts it in front of a data plane, as one sink, one set of counters. Egress of
 * the tunnel device has the outbound program; every Ethernet device that holds one of our outer addresses or leads
 * to a peer has the inbound one. Each direction is on or off by a word in `settings`; off, or with the program gone, all packets take
 * the slow path, which is complete. So nothing here is allowed to end the agent: what fails, or is undone by others,
 * turns the fast path off, with the reason in the log and the status, and is mended at the next look (fast-path-mending).
 *
 * Maps and links die with the process unless they are pinned (fast-path-pins). Then the next process finds them at work,
 * leaves them alone until its first configuration, writes what differs, and exchanges the programs on their links. Maps of
 * another version go on until then, too: ours are laid beside them, and come to work with our programs.
 *
 * Routes and rules are told by the kernel, REST_MS together; what has no notification is looked at every TICK_MS or CHECK_MS, and
 * where no packet comes only every CHECK_MS: each time wakes a processor.
 */
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { FastTables, type Way } from '../ebpf/fast-tables.ts';
import { inboundProgram } from '../ebpf/inbound-program.ts';
import { CELL_PACKETS, FOREVER_NS, numberBytes, settingsBytes } from '../ebpf/layout.ts';
import { outboundProgram } from '../ebpf/outbound-program.ts';
import type { ForwardingChange, ForwardingConfig } from '../fib/forwarding-config.ts';
import { Bpf, TCX_EGRESS, TCX_INGRESS } from '../io/bpf.ts';
import { kernelMonotonicNs } from '../io/kernel-clock.ts';
import { systemCalls } from '../io/libc.ts';
import { watchReadable } from '../io/readiness.ts';
import { openRouteLookup } from '../io/route-lookup.ts';
import { openRoutingSocket, type RouteSocket } from '../io/route-socket.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import { decodeNetlink, type NetlinkMessage } from '../wire/rtnetlink.ts';
import { HostDevices } from './fast-path-devices.ts';
import { Hooks, pinName } from './fast-path-hooks.ts';
import { FastPathMaps } from './fast-path-maps.ts';
import { Mending } from './fast-path-mending.ts';
import { PathMtuFollower } from './fast-path-mtu.ts';
import { Pins, pinDirectory, removePins } from './fast-path-pins.ts';
import { FAST_DIRECTIONS, type FastDirection, type FastPathState } from './fast-path-state.ts';
import { FirewallJudge, type FirewallQuestion, type Judgement, judgeAtFirst } from './firewall-judge.ts';

const TICK_MS = 100;
const REST_MS = 100;
const CHECK_MS = 1000;
/**
 * An agent that has not looked for so long stands still (a frozen cgroup, SIGSTOP): the programs leave the packets to it then, since
 * nobody follows their tables. Many looks, so that a busy machine or a large table is not taken for that.
 */
const HOLD_NS = 10_000_000_000n;
/** The kernel tells of links and addresses; in case it was not heard. */
const SETTLE_MS = 10_000;
/** Routes of ours say where inner packets go, not how peers are reached. */
const OWN_ROUTE_PROTOCOL = 84;

export interface FastPathOptions extends FirewallQuestion {
  readonly mode: 'auto' | 'ebpf';
  readonly device: { readonly name: string; readonly index: number };
  readonly logger: Logger;
  /** What the slow path learned from ICMP: how many errors it heard, and the path MTUs. */
  readonly icmpErrors: () => number;
  readonly pathMtus: () => readonly { readonly address: Ipv4; readonly pathMtu: number | null }[];
  /** The outer source, where it is known before the first configuration. */
  readonly local: Ipv4 | null;
  /** Where maps and links are pinned, or were: a directory for all devices. */
  readonly pinRoot: string;
  readonly pin: boolean;
}

/** @throws UnavailableError where it cannot run, or in mode `ebpf` may not */
export async function startFastPath(options: FastPathOptions): Promise<FastPath> {
  const first = await judgeAtFirst(options, options.local);
  const obstacle = first.verdict.outbound ?? first.verdict.inbound;
  if (options.mode === 'ebpf' && obstacle !== null)
    throw new UnavailableError('ERR_EBPF_FIREWALL', `--fast-path ebpf would go around ${obstacle}`, {
      hint: 'use --fast-path auto, which leaves that direction to the slow path, or take it away',
    });
  return new FastPath(options, first);
}

export class FastPath {
  readonly #options: FastPathOptions;
  readonly #bpf = new Bpf();
  readonly maps: FastPathMaps;
  readonly #ways;
  readonly #tables: FastTables;
  readonly #pathMtus: PathMtuFollower;
  readonly #routes: RouteSocket;
  readonly #programs: Record<FastDirection, number>;
  readonly #hooks: Hooks;
  /** Writes to the maps that failed are made again with all others, when it is mended. */
  readonly #mending: Mending;
  readonly #firewall: FirewallJudge;
  readonly #devices: HostDevices;
  readonly #pins: Pins | null;
  /** Before the first configuration, what the process before us has laid stays as it is. */
  #isConfigured = false;
  /** Its maps are none that we know: its programs go on over them until ours are laid. */
  readonly #isSuccessor: boolean;
  #said = '';
  #checkedMs = 0;
  #settledMs = 0;
  #carried = '';
  /** Whether the programs carried nothing between the last two looks. */
  #isAtRest = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #watch: { stop(): Promise<void> };

  constructor(options: FastPathOptions, first: Judgement) {
    const { enter } = options;
    this.#options = options;
    this.#devices = new HostDevices(enter);
    const pins = pinsOf(options);
    this.#pins = pins;
    this.maps = new FastPathMaps(this.#bpf, pins);
    // What others have left is not to run against the firewall.
    const isForbidden = first.verdict.outbound !== null || first.verdict.inbound !== null;
    this.#isSuccessor = !this.maps.adopted && !isForbidden && (pins?.links().size ?? 0) > 0;
    const opened: { close(): void }[] = [this.maps];
    try {
      this.#ways = enter(openRouteLookup);
      opened.push(this.#ways);
      this.#routes = enter(openRoutingSocket);
      opened.push(this.#routes);
      this.#firewall = new FirewallJudge({
        ...options,
        first,
        // Off at every rule of kube-proxy's would be worse than the second until it is read.
        unread: 'stands',
        onVerdict: () => this.#settle(),
      });
      opened.push(this.#firewall);
      this.#programs = {
        outbound: this.maps.load(outboundProgram(), TCX_EGRESS),
        inbound: this.maps.load(inboundProgram(), TCX_INGRESS),
      };
      this.#hooks = new Hooks(this.#bpf, this.#programs, enter, pins);
      if (!this.#isSuccessor) this.#start();
    } catch (error) {
      for (const part of opened) part.close();
      throw error;
    }
    this.#mending = new Mending(this.maps);
    this.#tables = new FastTables(this.#mending.writer, (peer, source) => this.#wayTo(peer, source));
    this.#pathMtus = new PathMtuFollower(options, (address, mtu) => this.#tables.setPathMtu(address, mtu));
    this.#waitForTick();
    this.#watch = watchReadable(this.#routes.fd, () => this.#mended(() => this.#hearRoutes()), REST_MS);
    if (isForbidden || (!this.maps.adopted && !this.#isSuccessor)) this.#settle();
  }

  /** From now on our programs work, over our maps. */
  #start(): void {
    if (this.#pins && !this.maps.adopted) {
      if (!this.#isSuccessor) this.#pins.clear();
      this.maps.keep(this.#pins);
    }
    this.#hooks.hang('outbound', this.#options.device);
  }

  replace(config: ForwardingConfig): void {
    const isFirst = !this.#isConfigured;
    this.#tables.replace(config);
    this.#isConfigured = true;
    if (isFirst && this.maps.adopted) this.#tables.sweep();
    if (isFirst && this.#isSuccessor) this.#mended(() => this.#start());
    this.#settle();
    if (isFirst) this.#hooks.sweepPins();
  }

  change(change: ForwardingChange): void {
    for (const operation of change.operations) this.#tables.apply(operation);
    this.#settle();
  }

  state(): FastPathState {
    return { outbound: this.#obstacle('outbound'), inbound: this.#obstacle('inbound') };
  }

  timesMended(direction: FastDirection): number {
    return this.#mending.timesMended(direction);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#hooks.close();
    for (const program of Object.values(this.#programs)) systemCalls().close(program);
    for (const part of [this.#firewall, this.#ways, this.maps]) part.close();
    void this.#watch.stop().then(() => this.#routes.close());
  }

  #obstacle(direction: FastDirection): string | null {
    const broken = this.#mending.why(direction);
    if (broken !== null) return broken;
    const obstacle = this.#firewall.verdict[direction];
    if (obstacle !== null) return `${obstacle} has a say about it`;
    if (direction === 'outbound' || this.#hooks.has('inbound')) return null;
    return this.#tables.isAnyLocal
      ? 'no peer is reached by an Ethernet device'
      : 'no Ethernet device holds our outer address or leads to a peer';
  }

  /** Brings devices and settings up to what is known now, and says what has changed. */
  #settle(): void {
    try {
      if (this.#isConfigured) this.#knowAddresses();
      this.#hangInbound();
      this.#writeSettings();
    } catch (error) {
      this.#mending.note(`its maps or devices cannot be reached: ${(error as Error).message}`);
    }
    this.#say();
  }

  #writeSettings(): void {
    const { outbound, inbound } = this.state();
    const untilNs = this.#options.pin ? FOREVER_NS : kernelMonotonicNs() + HOLD_NS;
    const on = (obstacle: string | null) => (obstacle === null ? untilNs : 0n);
    const settings = settingsBytes(this.#options.device.index, on(outbound), on(inbound));
    this.maps.set('settings', numberBytes(0), settings);
  }

  #say(): void {
    const state = this.state();
    const said = JSON.stringify(state);
    if (said === this.#said) return;
    this.#said = said;
    for (const direction of FAST_DIRECTIONS) {
      const why = state[direction];
      const level = this.#mending.why(direction) === null ? 'info' : 'warn';
      this.#options.logger[level](
        { direction },
        why === null ? 'the fast path runs' : `the slow path carries all: ${why}`,
      );
    }
  }

  #knowAddresses(): void {
    // No other host sends protocol 4 to the tunnel device's own.
    if (this.#tables.isAnyLocal)
      this.#tables.setHostAddresses(this.#devices.addressesBut(this.#options.device.name));
    this.#firewall.setOwn({ outbound: [...this.#tables.sources()], inbound: this.#tables.locals });
  }

  /**
   * The inbound program hangs on Ethernet devices that hold one of our outer addresses, and on those that lead to peers: the
   * address may be the loopback's, with routes to it. Where any address is ours, only on the latter.
   */
  #hangInbound(): void {
    const devices = this.#tables.devices();
    if (!this.#tables.isAnyLocal)
      for (const index of this.#devices.holding(this.#tables.locals)) devices.add(index);
    for (const index of devices) {
      const device = this.#devices.ethernet(index);
      if (device) this.#hooks.hang('inbound', device);
    }
  }

  /** What the programs put before a packet is an Ethernet header: by other devices the slow path sends. */
  #wayTo(peer: Ipv4, source: Ipv4 | null): Way {
    const way = this.#ways.wayTo(peer, source ?? undefined);
    return this.#devices.ethernet(way.device) ? way : { ...way, device: 0 };
  }

  #waitForTick(): void {
    this.#timer = setTimeout(() => this.#tick(), this.#isAtRest ? CHECK_MS : TICK_MS);
    this.#timer.unref();
  }

  #tick(): void {
    const nowMs = performance.now();
    this.#mended(() => {
      this.#pathMtus.tick(nowMs);
      if (nowMs - this.#checkedMs < CHECK_MS - TICK_MS / 2) return;
      this.#checkedMs = nowMs;
      this.#check(nowMs);
    });
    this.#waitForTick();
  }

  #hearRoutes(): void {
    if (!drained(this.#routes, concernsUnderlay) || !this.#isConfigured) return;
    this.#devices.forget();
    this.#tables.followRoutes();
    this.#settle();
  }

  /** What fails leaves the packets to the slow path, and is tried again. */
  #mended(what: () => void): void {
    try {
      what();
    } catch (error) {
      this.#mending.note((error as Error).message);
      this.#settle();
    }
  }

  /** What others may have done: programs taken off, devices gone, maps emptied. Said now, mended at the next look. */
  #check(nowMs: number): void {
    if (!this.#isConfigured) return;
    const carried = FAST_DIRECTIONS.map((direction) => this.maps.totals(direction)[CELL_PACKETS]).join();
    this.#isAtRest = carried === this.#carried;
    this.#carried = carried;
    let isDue = nowMs - this.#settledMs >= SETTLE_MS;
    if (this.#mending.begin(nowMs)) {
      this.#hooks.hang('outbound', this.#options.device);
      this.#tables.layAgain();
      isDue = true;
    }
    for (const { direction, device } of this.#hooks.check()) {
      this.#mending.note(`its program was taken off ${device}`, [direction]);
      isDue = true;
    }
    for (const map of ['routes', 'sources', 'peers'] as const) {
      if (this.#tables.laid(map) === 0 || !this.maps.isEmpty(map)) continue;
      this.#mending.note(`its map ${map} was emptied`);
      isDue = true;
    }
    if (isDue) {
      this.#settledMs = nowMs;
      this.#settle();
    } else {
      this.#writeSettings();
      this.#say();
    }
  }
}

/** The device's pins: ours to use, or to take away where nothing is to be pinned (any more). */
function pinsOf(options: FastPathOptions): Pins | null {
  const directory = options.enter(() => pinDirectory(options.pinRoot, options.device.name));
  if (!options.pin) {
    removePins(directory);
    return null;
  }
  const pins = new Pins(directory);
  // Those of another device of this name have another number.
  if (!pins.links().has(pinName('outbound', options.device))) pins.clear();
  return pins;
}

/** Reads the socket empty; whether a message was of interest, or some were lost. */
function drained(socket: RouteSocket, isOfInterest: (message: NetlinkMessage) => boolean): boolean {
  let found = false;
  for (let event = socket.receive(); event !== null; event = socket.receive())
    found ||= event === 'lost' || decodeNetlink(event.bytes, event.offset, event.length).some(isOfInterest);
  return found;
}

function concernsUnderlay(message: NetlinkMessage): boolean {
  return message.kind !== 'route' || message.protocol !== OWN_ROUTE_PROTOCOL;
}
