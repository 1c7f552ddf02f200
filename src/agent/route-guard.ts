/**
 * `tunnel run --guard`: routes beneath those of others, for the time when those are gone. Felix takes its routes off a
 * device without carrier, and what they led into the tunnel would leave plain by the default route.
 *
 * They stay when the process ends, since that is what they are for. Which ones are ours is written in the run directory,
 * before they are put; the next start takes away those that it is not asked for any more, and `--cleanup` all.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { KernelChange, KernelTables } from '../control/kernel-tables.ts';
import { deleteGuardRoutes, GUARD_ROUTE_WORDS, setGuardRoutes } from '../host/guard-routes.ts';
import { errnoName } from '../io/errno.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../ip/prefix.ts';

export class RouteGuard {
  readonly #prefixes: readonly Prefix[];
  readonly #file: string;
  readonly #logger: Logger;

  constructor(parts: {
    readonly prefixes: readonly Prefix[];
    readonly file: string;
    readonly logger: Logger;
  }) {
    this.#prefixes = parts.prefixes;
    this.#file = parts.file;
    this.#logger = parts.logger;
  }

  /** Before the device has its carrier. @throws UnavailableError where the kernel refuses */
  start(): void {
    const wanted = new Set(this.#prefixes.map(formatPrefix));
    const left = remembered(this.#file).filter((prefix) => !wanted.has(formatPrefix(prefix)));
    remember(this.#file, [...left, ...this.#prefixes]);
    for (const [at, errno] of setGuardRoutes(this.#prefixes))
      throw new UnavailableError(
        'ERR_GUARD',
        `--guard: the kernel refuses "${GUARD_ROUTE_WORDS.replace('…', formatPrefix(this.#prefixes[at]!))}": ${errnoName(errno)}`,
        { hint: 'CAP_NET_ADMIN is needed in the namespace of the network' },
      );
    deleteGuardRoutes(left);
    remember(this.#file, this.#prefixes);
  }

  /** After a dump: puts back those that are missing. */
  compare({ routes }: KernelTables): void {
    if (this.#prefixes.length === 0) return;
    const there = new Set(
      routes.flatMap(({ type, prefix }) => (type === 'guard' ? formatPrefix(prefix) : [])),
    );
    this.#restore(this.#prefixes.filter((prefix) => !there.has(formatPrefix(prefix))));
  }

  /** Puts back one that somebody took away. */
  hear(changes: readonly KernelChange[]): void {
    if (this.#prefixes.length === 0) return;
    const gone = new Set<string>();
    for (const change of changes)
      if (change.kind === 'route' && change.route.type === 'guard') {
        if (change.change === 'deleted') gone.add(formatPrefix(change.route.prefix));
        else gone.delete(formatPrefix(change.route.prefix));
      }
    this.#restore(this.#prefixes.filter((prefix) => gone.has(formatPrefix(prefix))));
  }

  #restore(missing: readonly Prefix[]): void {
    if (missing.length === 0) return;
    const refused = setGuardRoutes(missing);
    const guards = missing.map(formatPrefix);
    if (refused.size > 0)
      this.#logger.error({ guards }, 'guard routes are gone, and the kernel refuses them');
    else this.#logger.warn({ guards }, 'guard routes were gone and are put back');
  }
}

/** What `--cleanup` does. @returns how many were ours */
export function removeGuards(file: string): number {
  const guards = remembered(file);
  deleteGuardRoutes(guards);
  rmSync(file, { force: true });
  return guards.length;
}

/** Nothing where there is no file: after a restart of the host there are no routes either. */
function remembered(file: string): Prefix[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => parsePrefix(line) ?? []);
}

function remember(file: string, prefixes: readonly Prefix[]): void {
  if (prefixes.length === 0) rmSync(file, { force: true });
  else writeFileSync(file, prefixes.map((prefix) => `${formatPrefix(prefix)}\n`).join(''));
}
