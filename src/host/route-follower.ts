/**
 * The kernel's links and routes, followed.
 *
 * Theory of operation. First we subscribe, then we dump, so that nothing falls between the two: what changes
 * during the dump is heard after it, and hearing twice of the same thing does no harm. The kernel does not say
 * everything: where a link goes down or an address goes away it removes routes without a word, and where our
 * buffer overruns its messages are lost. After each of these the tables are dumped anew, at most once a second
 * (an overrun at once), and whoever listens compares.
 */

import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { KernelChange, KernelLink, KernelRoute, KernelTables } from '../control/kernel-tables.ts';
import { watchReadable } from '../io/readiness.ts';
import { dumpTable, openRouteSocket, type RouteSocket } from '../io/route-socket.ts';
import { prefixOf } from '../ip/prefix.ts';
import {
  decodeNetlink,
  type LinkMessage,
  type NetlinkMessage,
  ROUTE_BLACKHOLE,
  ROUTE_LOCAL,
  ROUTE_UNICAST,
  type RouteMessage,
} from '../wire/rtnetlink.ts';
import { isGuardRoute } from './guard-routes.ts';

const ROUTE_BROADCAST = 3;
const ROUTE_PROHIBIT = 8;
/** Dumps that a change interrupts are repeated; on a host that never rests the last one has to do for a while. */
const DUMP_ATTEMPTS = 3;
const DUMP_INTERVAL_MS = 1000;

export interface RouteFollowerParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Everything anew; what was known before is to be forgotten. */
  readonly onTables: (tables: KernelTables) => void;
  /** In the kernel's order. */
  readonly onChanges: (changes: readonly KernelChange[]) => void;
}

export class RouteFollower {
  readonly #parts: RouteFollowerParts;
  readonly #socket: RouteSocket;
  #watch: { stop(): Promise<void> } | undefined;
  #links = new Set<number>();
  #lastDumpMs = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Who waits for the dump that is due. */
  #waiting: (() => void)[] = [];
  #dumps = 0;
  #overruns = 0;

  constructor(parts: RouteFollowerParts) {
    this.#parts = parts;
    this.#socket = openRouteSocket();
  }

  get dumps(): number {
    return this.#dumps;
  }

  /** How often the kernel had more to say than we could hold. */
  get overruns(): number {
    return this.#overruns;
  }

  /** Dumps, and listens from then on. */
  start(): void {
    this.#dump();
    this.#watch = watchReadable(this.#socket.fd, () => this.#hear());
  }

  /** Asks for a dump on our own account, such as where a message contradicts what is known. */
  doubt(): void {
    this.#dumpSoon();
  }

  /** Resolves when everything that the kernel had said by now is handed on, by a dump where one is due. */
  catchUp(): Promise<void> {
    this.#hear();
    if (!this.#timer) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#watch?.stop();
    this.#socket.close();
  }

  #hear(): void {
    const changes: KernelChange[] = [];
    let unsaid = false;
    for (let part = this.#socket.receive(); part !== null; part = this.#socket.receive()) {
      if (part === 'lost') {
        this.#overrun();
        return;
      }
      for (const message of decodeNetlink(part.bytes, part.offset, part.length)) {
        if (this.#leavesUnsaid(message)) unsaid = true;
        const change = changeOf(message);
        if (change) changes.push(change);
      }
    }
    if (changes.length > 0) this.#parts.onChanges(changes);
    if (unsaid) this.#dumpSoon();
  }

  /** What is still in the buffer is older than the dump that follows. */
  #overrun(): void {
    this.#overruns++;
    this.#parts.logger.warn({ overruns: this.#overruns }, 'netlink messages were lost: dumping anew');
    while (this.#socket.receive() !== null);
    this.#dumpAgain();
  }

  /** A link that was up and is down, or an address that went, took routes with it. */
  #leavesUnsaid(message: NetlinkMessage): boolean {
    if (message.kind === 'address') return message.change === 'deleted';
    if (message.kind !== 'link') return false;
    const wasUp = this.#links.has(message.index);
    const isUp = message.up && message.change === 'set';
    if (isUp) this.#links.add(message.index);
    else this.#links.delete(message.index);
    return wasUp && !isUp;
  }

  #dumpSoon(): void {
    if (this.#timer) return;
    const sinceMs = this.#parts.clock.monotonicMs() - this.#lastDumpMs;
    this.#timer = setTimeout(() => this.#dumpAgain(), Math.max(0, DUMP_INTERVAL_MS - sinceMs));
  }

  /** One that fails, as on a machine without memory, is tried again; what is known stays in force meanwhile. */
  #dumpAgain(): void {
    try {
      this.#dump();
    } catch (error) {
      this.#parts.logger.error({ error }, 'the kernel’s tables could not be read');
      this.#lastDumpMs = this.#parts.clock.monotonicMs();
      this.#dumpSoon();
    }
  }

  #dump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const begin = this.#parts.clock.monotonicMs();
    let tables = readTables();
    for (let attempt = 1; tables.interrupted && attempt < DUMP_ATTEMPTS; attempt++) tables = readTables();
    this.#links = new Set(tables.links.filter((link) => link.up).map((link) => link.index));
    this.#dumps++;
    this.#lastDumpMs = this.#parts.clock.monotonicMs();
    const ms = Math.round(this.#lastDumpMs - begin);
    this.#parts.logger.debug({ routes: tables.routes.length, links: tables.links.length, ms }, 'dumped');
    this.#parts.onTables(tables);
    if (tables.interrupted) this.#dumpSoon();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function readTables(): KernelTables & { interrupted: boolean } {
  const links: KernelLink[] = [];
  const routes: KernelRoute[] = [];
  const linksWhole = dumpTable('links', (message) => {
    if (message.kind === 'link') links.push(linkOf(message));
  });
  const routesWhole = dumpTable('routes', (message) => {
    const route = message.kind === 'route' ? routeOf(message) : undefined;
    if (route) routes.push(route);
  });
  return { links, routes, interrupted: !linksWhole || !routesWhole };
}

function changeOf(message: NetlinkMessage): KernelChange | undefined {
  if (message.kind === 'link') return { kind: 'link', change: message.change, link: linkOf(message) };
  if (message.kind !== 'route') return undefined;
  const route = routeOf(message);
  return route && { kind: 'route', change: message.change, route, position: message.position ?? 'first' };
}

function linkOf({ index, name, up, running, mtu, type }: LinkMessage): KernelLink {
  return { index, name, up, running, mtu, type };
}

/** undefined for multicast and `throw`, which say nothing about who sends what, and for what a dump has of no table. */
function routeOf(message: RouteMessage): KernelRoute | undefined {
  if (message.cached) return undefined;
  const type = isGuardRoute(message) ? 'guard' : typeOf(message.type);
  return (
    type && {
      prefix: prefixOf(message.destination, message.prefixLength),
      table: message.table,
      metric: message.priority,
      type,
      mtu: message.mtu,
      nextHops: message.nextHops,
    }
  );
}

function typeOf(type: number): KernelRoute['type'] | undefined {
  if (type === ROUTE_UNICAST) return 'unicast';
  if (type === ROUTE_LOCAL || type === ROUTE_BROADCAST) return 'local';
  return type >= ROUTE_BLACKHOLE && type <= ROUTE_PROHIBIT ? 'refused' : undefined;
}
