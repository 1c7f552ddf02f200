/**
 * The fast path of one device: the two programs, their maps, what they hang on, and when they must not run.
 *
 * Theory of operation. `withFastPath` puts it in front of a data plane, as one sink, one set of counters. Egress of
 * the tunnel device has the outbound program; every Ethernet device that holds one of our outer addresses has the
 * inbound one. Each direction is on or off by a word in `settings`; off, or with the program gone, all packets take
 * the slow path, which is complete. So nothing here is allowed to end the agent: what fails turns the fast path off,
 * with the reason in the log and the status. Links are not pinned: they die with the process.
 *
 * What has no notification that we could wait for is looked at every TICK_MS (sockets are read empty) or CHECK_MS.
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { FastTables } from '../ebpf/fast-tables.ts';
import { inboundProgram } from '../ebpf/inbound-program.ts';
import { addressBytes, numberBytes } from '../ebpf/layout.ts';
import { outboundProgram } from '../ebpf/outbound-program.ts';
import type { ForwardingChange, ForwardingConfig } from '../fib/forwarding-config.ts';
import type { OuterFirewall } from '../host/outer-firewall.ts';
import { Bpf, TCX_EGRESS, TCX_INGRESS } from '../io/bpf.ts';
import { systemCalls } from '../io/libc.ts';
import { inNetworkNamespace } from '../io/netns.ts';
import { openRouteLookup } from '../io/route-lookup.ts';
import { openFirewallSocket, openRouteSocket, type RouteSocket } from '../io/route-socket.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { decodeNetlink, type NetlinkMessage } from '../wire/rtnetlink.ts';
import { FastPathMaps } from './fast-path-maps.ts';
import { PathMtuFollower } from './fast-path-mtu.ts';
import type { FastDirection, FastPathState } from './fast-path-state.ts';

const TICK_MS = 100;
const CHECK_MS = 1000;
const JUDGE_MS = 1000;
const L3_DEVICE = '00:00:00:00:00:00';
/** Routes of ours say where inner packets go, not how peers are reached. */
const OWN_ROUTE_PROTOCOL = 84;

export interface FastPathOptions {
  readonly mode: 'auto' | 'ebpf';
  readonly device: { readonly name: string; readonly index: number };
  readonly logger: Logger;
  /** Which chains of the host's firewall have a say about outer packets. */
  readonly firewall: (legacyTables: string) => Promise<OuterFirewall>;
  /** What the slow path learned from ICMP: how many errors it heard, and the path MTUs. */
  readonly icmpErrors: () => number;
  readonly pathMtus: () => readonly { readonly address: Ipv4; readonly pathMtu: number | null }[];
  readonly networkNamespace?: string;
}

interface Hook {
  readonly name: string;
  readonly index: number;
  readonly link: number;
}

/** @throws UnavailableError where it cannot run, or in mode `ebpf` may not */
export async function startFastPath(options: FastPathOptions): Promise<FastPath> {
  const enter = <T>(fn: () => T): T =>
    options.networkNamespace === undefined ? fn() : inNetworkNamespace(options.networkNamespace, fn);
  const firewall = await options.firewall(legacyTables(enter));
  const chain = firewall.outbound ?? firewall.inbound;
  if (options.mode === 'ebpf' && chain !== null)
    throw new UnavailableError(
      'ERR_EBPF_FIREWALL',
      `--fast-path ebpf would go around a chain of the host's firewall: ${chain}`,
      {
        hint: 'use --fast-path auto, which leaves that direction to the slow path, or take the chain away',
      },
    );
  return new FastPath(options, enter, firewall);
}

function legacyTables(enter: <T>(fn: () => T) => T): string {
  return enter(() => {
    try {
      return readFileSync('/proc/thread-self/net/ip_tables_names', 'utf8');
    } catch {
      return '';
    }
  });
}

export class FastPath {
  readonly #options: FastPathOptions;
  readonly #enter: <T>(fn: () => T) => T;
  readonly #bpf = new Bpf();
  readonly maps: FastPathMaps;
  readonly #ways;
  readonly #tables: FastTables;
  readonly #pathMtus: PathMtuFollower;
  readonly #routes: RouteSocket;
  readonly #rules: RouteSocket;
  readonly #programs: Record<FastDirection, number>;
  #egress: Hook | null;
  #ingress: Hook[] = [];
  #firewall: OuterFirewall;
  /** Why a direction is over for good: taken off behind our back, or an error. */
  readonly #ended: Record<FastDirection, string | null> = { outbound: null, inbound: null };
  #said = '';
  #ticks = 0;
  #judging = false;
  #rulesChanged = false;
  /** Not before this tick: some hosts have tens of thousands of rules, and change them all the time. */
  #judgeAgainAt = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(options: FastPathOptions, enter: <T>(fn: () => T) => T, firewall: OuterFirewall) {
    this.#options = options;
    this.#enter = enter;
    this.#firewall = firewall;
    this.maps = new FastPathMaps(this.#bpf);
    const opened: { close(): void }[] = [this.maps];
    try {
      this.#ways = enter(openRouteLookup);
      opened.push(this.#ways);
      this.#routes = enter(openRouteSocket);
      opened.push(this.#routes);
      this.#rules = enter(openFirewallSocket);
      opened.push(this.#rules);
      this.#programs = {
        outbound: this.maps.load(outboundProgram(), TCX_EGRESS),
        inbound: this.maps.load(inboundProgram(), TCX_INGRESS),
      };
      this.#egress = this.#hang('outbound', options.device);
    } catch (error) {
      for (const part of opened) part.close();
      throw error;
    }
    this.#tables = new FastTables(this.maps, (peer) => this.#ways.wayTo(peer));
    this.#pathMtus = new PathMtuFollower(options, (address, mtu) => this.#tables.setPathMtu(address, mtu));
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
    this.#settle();
  }

  replace(config: ForwardingConfig): void {
    this.#lay(() => this.#tables.replace(config));
  }

  change(change: ForwardingChange): void {
    this.#lay(() => {
      for (const operation of change.operations) this.#tables.apply(operation);
    });
  }

  state(): FastPathState {
    return { outbound: this.#obstacle('outbound'), inbound: this.#obstacle('inbound') };
  }

  stop(): void {
    clearInterval(this.#timer);
    const { close } = systemCalls();
    for (const hook of [...this.#ingress, ...(this.#egress ? [this.#egress] : [])]) close(hook.link);
    for (const program of Object.values(this.#programs)) close(program);
    for (const part of [this.#routes, this.#rules, this.#ways, this.maps]) part.close();
  }

  /** A failure ends the fast path, never the agent: what lies in the maps may be half of a change. */
  #lay(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#end(`writing its maps failed: ${(error as Error).message}`);
    }
    this.#settle();
  }

  #end(why: string): void {
    this.#ended.outbound ??= why;
    this.#ended.inbound ??= why;
  }

  #obstacle(direction: FastDirection): string | null {
    const ended = this.#ended[direction];
    if (ended !== null) return ended;
    const chain = this.#firewall[direction];
    if (chain !== null) return `the firewall's chain ${chain} has a say about it`;
    if (direction === 'outbound') return this.#tables.outerSource === null ? 'no outer source is set' : null;
    if (this.#tables.locals.length === 0) return 'no outer address of ours is set';
    return this.#ingress.length === 0 ? 'no Ethernet device holds our outer address' : null;
  }

  /** Brings devices and settings up to what is known now, and says what has changed. */
  #settle(): void {
    try {
      this.#hangInbound();
      const state = this.state();
      const settings = numberBytes(
        this.#options.device.index,
        state.outbound === null ? 1 : 0,
        state.inbound === null ? 1 : 0,
      );
      const source = addressBytes(this.#tables.outerSource ?? 0);
      this.maps.set('settings', numberBytes(0), Uint8Array.from([...source, ...settings]));
    } catch (error) {
      this.#end(`its maps or devices cannot be reached: ${(error as Error).message}`);
    }
    this.#say();
  }

  #say(): void {
    const state = this.state();
    const said = JSON.stringify(state);
    if (said === this.#said) return;
    this.#said = said;
    for (const direction of ['outbound', 'inbound'] as const)
      this.#options.logger.info(
        { direction },
        state[direction] === null ? 'the fast path runs' : `the slow path carries all: ${state[direction]}`,
      );
  }

  #hang(direction: FastDirection, device: { readonly name: string; readonly index: number }): Hook {
    const type = direction === 'outbound' ? TCX_EGRESS : TCX_INGRESS;
    const link = this.#enter(() => this.#bpf.attach(this.#programs[direction], device.index, type));
    return { name: device.name, index: device.index, link };
  }

  /** Ethernet devices that hold one of our outer addresses get the inbound program. */
  #hangInbound(): void {
    const ours = new Set(this.#tables.locals.map(formatIpv4));
    const devices = this.#enter(() =>
      Object.entries(networkInterfaces())
        .filter(([, addresses]) => addresses?.some((a) => ours.has(a.address) && a.mac !== L3_DEVICE))
        .map(([name]) => ({ name, index: systemCalls().ifNameToIndex(name) })),
    );
    for (const device of devices)
      if (device.index > 0 && !this.#ingress.some((hook) => hook.index === device.index))
        this.#ingress.push(this.#hang('inbound', device));
  }

  #tick(): void {
    this.#ticks++;
    try {
      if (drained(this.#routes, concernsUnderlay)) {
        this.#tables.followRoutes();
        this.#settle();
      }
      this.#rulesChanged = drained(this.#rules, () => true) || this.#rulesChanged;
      if (this.#rulesChanged && !this.#judging && this.#ticks >= this.#judgeAgainAt) void this.#judge();
      this.#pathMtus.tick(performance.now());
      if (this.#ticks % (CHECK_MS / TICK_MS) === 0) this.#check();
    } catch (error) {
      this.#end((error as Error).message);
      this.#settle();
    }
  }

  async #judge(): Promise<void> {
    this.#judging = true;
    this.#rulesChanged = false;
    this.#judgeAgainAt = this.#ticks + JUDGE_MS / TICK_MS;
    try {
      this.#firewall = await this.#options.firewall(legacyTables(this.#enter));
    } catch (error) {
      const unknown = `that cannot be read (${(error as Error).message})`;
      this.#firewall = { outbound: unknown, inbound: unknown };
    }
    this.#judging = false;
    this.#settle();
  }

  /** What others may have done: programs taken off, devices gone, maps emptied. */
  #check(): void {
    if (this.#egress && this.#bpf.deviceOf(this.#egress.link) === 0) {
      this.#ended.outbound ??= `its program was taken off ${this.#egress.name}`;
      systemCalls().close(this.#egress.link);
      this.#egress = null;
    }
    for (const hook of this.#ingress.filter(({ link }) => this.#bpf.deviceOf(link) === 0)) {
      const stillThere = this.#enter(() => systemCalls().ifNameToIndex(hook.name)) === hook.index;
      if (stillThere) this.#ended.inbound ??= `its program was taken off ${hook.name}`;
      this.#ingress = this.#ingress.filter((other) => other !== hook);
      systemCalls().close(hook.link);
    }
    for (const map of ['routes', 'sources', 'peers'] as const)
      if (this.#tables.laid(map) > 0 && this.maps.isEmpty(map)) this.#end(`its map ${map} was emptied`);
    this.#settle();
  }
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
