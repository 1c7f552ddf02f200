/**
 * Makes the host and the data plane what the datastore demands, and keeps them so.
 *
 * Theory of operation. Level-triggered: events only say that something may differ.
 * 1. `follow` lists the datastore once and watches it from there; each change goes into the ClusterView.
 * 2. `#cycle`, one at a time, takes all that has piled up: the desired state recomputes what was touched;
 * 3. the data plane gets the operations first (a route must never lead to a table that does not know it),
 * 4. then the host gets its plan: the touched routes by one replace each, and the few settings.
 * 5. `revision` is the datastore's revision that is then in force, in both.
 * The host is looked at again when it says that something of it changed, after a refused step, and
 * (settings) every RECHECK_MS, (routes) every ROUTES_RECHECK_MS; what is not as desired is put right. While the datastore is away everything stays as it is.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { ForwardingSink, Peer } from '../fib/forwarding-config.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { formatPrefix } from '../ip/prefix.ts';
import { ROOT } from '../model/keys.ts';
import type { Datastore, Listing, Revision, WatchEvent } from '../store/datastore.ts';
import { ClusterView, type ViewChange } from './cluster-view.ts';
import type { NodeSettings } from './contributions.ts';
import { type DesiredChange, DesiredState } from './desired-state.ts';
import { diffAllRoutes, diffRoutes, diffSettings, formatPlan, ObservedState } from './plan.ts';
import {
  type FailedStep,
  type ForeignRoute,
  type HostEvent,
  type HostNetwork,
  type HostRoute,
  isSameRoute,
  type PlanStep,
} from './ports.ts';

/** Felix looks at its routes every 90 s and at its device every 10 s. */
export const RECHECK_MS = 10_000;
/** What others do to routes is told by the kernel; 20,000 of them are not read over every ten seconds. */
const ROUTES_RECHECK_MS = 90_000;
/** The text of 20,000 routes would be made at every start, whoever reads it. */
const MOST_STEPS_LOGGED = 100;
/** After a step that the host refused. */
const RETRY_MS = 1_000;

export interface ReconcilerOptions {
  readonly settings: NodeSettings;
  readonly store: Datastore;
  readonly host: HostNetwork;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told when a whole listing is in force. */
  readonly onResynced?: () => void;
  /** Told after changes of the view, before they are in force: the agent keeps its Node resource by it. */
  readonly onView?: (view: ClusterView, changes: readonly ViewChange[] | 'resync') => void;
}

export interface ReconcilerStatus {
  readonly state: 'starting' | 'running' | 'degraded';
  /** Of the datastore; in force on the host and in the data plane. Empty before the first. */
  readonly revision: string;
  readonly datastore: { readonly connected: boolean; readonly why: string | null };
  readonly warnings: readonly string[];
  readonly entries: number;
  readonly routes: number;
  /** Of the tunnel device, as wanted. */
  readonly mtu: number | null;
}

export class Reconciler {
  readonly view: ClusterView;
  readonly #o: ReconcilerOptions;
  #desired: DesiredState | undefined;
  #observed: ObservedState | undefined;
  #pending: ViewChange[] = [];
  #resynced = false;
  #factsStale = false;
  #hostStale = false;
  #settingsStale = false;
  /** Routes that the kernel told of and that should be otherwise: by prefix what is there now. */
  readonly #drifted = new Map<string, HostRoute | undefined>();
  #tunnelAddress: Ipv4 | null | undefined;
  #sink: ForwardingSink | undefined;
  #since = '0' as Revision;
  /** Where to watch from: of a listing that `run` has not taken over yet. */
  #listed: Revision | undefined;
  #seen = '';
  #applied = '';
  #forwardingRevision = 0;
  #failed: readonly FailedStep[] = [];
  /** Refused steps that have been logged. */
  readonly #complaints = new Set<string>();
  #failure: string | null = null;
  #connected = false;
  #disconnectedWhy: string | null = null;
  #wake: () => void = () => {};
  #woken = false;

  constructor(options: ReconcilerOptions) {
    this.#o = options;
    this.view = new ClusterView({ workloadsOf: options.settings.node });
  }

  /**
   * Reads the whole datastore into the view, which nobody acts by yet. For whoever needs the view before `run`, and
   * for what can be done in the meantime. @throws what the datastore throws
   */
  async list(): Promise<void> {
    this.#listed = await this.#listAll();
  }

  /** Runs until the signal aborts. Nothing is laid before the view has come to the revision `since`. */
  async run(sink: ForwardingSink, since: Revision, signal: AbortSignal): Promise<void> {
    this.#sink = sink;
    this.#since = since;
    this.#o.host.watch((event) => this.#onHostEvent(event), signal);
    await Promise.all([this.#follow(signal), this.#cycles(signal)]);
  }

  /** What IPAM assigned; null: nothing. */
  setTunnelAddress(address: Ipv4 | null): void {
    this.#tunnelAddress = address;
    this.#notify();
  }

  /** Asks for a look at everything soon. */
  recheck(): void {
    this.#factsStale = true;
    this.#hostStale = true;
    this.#notify();
  }

  status(): ReconcilerStatus {
    const warnings = [...(this.#desired?.warnings() ?? [])];
    for (const { step, reason } of this.#failed)
      warnings.push(`not done: ${formatPlan([step]).trim()}: ${reason}`);
    if (this.#failure !== null) warnings.push(this.#failure);
    if (!this.#connected && this.#applied)
      warnings.push(
        `the datastore is away (${this.#disconnectedWhy ?? 'no reason known'}); forwarding goes on as it was`,
      );
    if (!this.view.datastoreReady)
      warnings.push('ClusterInformation says datastoreReady: false; nothing is changed until it is true');
    const troubled = this.#failed.length > 0 || this.#failure !== null || !this.#connected;
    return {
      state: this.#applied === '' ? 'starting' : troubled ? 'degraded' : 'running',
      revision: this.#applied,
      datastore: { connected: this.#connected, why: this.#disconnectedWhy },
      warnings,
      entries: this.#desired?.entryCount ?? 0,
      routes: this.#observed?.routes.size ?? 0,
      mtu: this.#desired?.device().mtu ?? null,
    };
  }

  /** How each peer is sent to. */
  transports(): ReadonlyMap<Ipv4, Peer['transport']> {
    return new Map(this.#desired?.peers().map((peer) => [peer.address, peer.transport]));
  }

  // --- the datastore ---

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const from = this.#listed ?? (await this.#listAll());
        this.#listed = undefined;
        const options = {
          signal,
          onState: (state: 'connected' | 'disconnected', why?: string) =>
            this.#setConnected(state === 'connected', why),
        };
        for await (const event of this.#o.store.watch(ROOT, from, options)) this.#take(event);
      } catch (error) {
        if (signal.aborted) return;
        this.#setConnected(false, (error as Error).message);
        await this.#o.clock.sleep(RETRY_MS, signal).catch(() => {});
      }
    }
  }

  async #listAll(): Promise<Revision> {
    // At first in parts, since nobody acts by the view yet; later at once, since half a view demands half the routes.
    const first = this.#seen === '';
    const listing = first ? undefined : await this.#o.store.list(ROOT);
    const revision = listing?.revision ?? (await this.#o.store.scan(ROOT, this.view));
    this.#setConnected(true);
    if (listing) this.#resync(listing);
    else this.#afterListing(revision);
    return revision;
  }

  #setConnected(connected: boolean, why?: string): void {
    if (connected !== this.#connected) {
      const fields = { datastore: this.#o.store.url, why };
      if (connected) this.#o.logger.info(fields, 'connected to the datastore');
      else this.#o.logger.warn(fields, 'the datastore is away; forwarding goes on as it was');
    }
    this.#connected = connected;
    this.#disconnectedWhy = connected ? null : (why ?? null);
  }

  #resync(listing: Listing): void {
    this.view.resync(listing.entries);
    this.#afterListing(listing.revision);
  }

  #afterListing(revision: Revision): void {
    this.#pending = [];
    this.#resynced = true;
    this.#o.onView?.(this.view, 'resync');
    this.#advance(revision);
  }

  #take(event: WatchEvent): void {
    if (event.type === 'resync') {
      this.#resync(event.listing);
      return;
    }
    const [key, value, revision] =
      event.type === 'put'
        ? [event.entry.key, event.entry.value, event.entry.revision]
        : [event.key, undefined, event.revision];
    const problem = this.view.problems.get(key);
    const change = this.view.apply(key, value);
    const now = this.view.problems.get(key);
    if (now !== undefined && now !== problem)
      this.#o.logger.warn({ key, problem: now }, 'this value is skipped: it cannot be read');
    if (change) {
      this.#pending.push(change);
      this.#o.onView?.(this.view, [change]);
    }
    this.#advance(revision);
  }

  #advance(revision: Revision): void {
    this.#seen = revision;
    this.#notify();
  }

  // --- the host ---

  #onHostEvent(event: HostEvent): void {
    if (event.type === 'facts') this.#factsStale = true;
    else if (this.#isDrift(event))
      this.#drifted.set(formatPrefix(event.route.prefix), event.change === 'set' ? event.route : undefined);
    else return;
    this.#notify();
  }

  /** Our own changes come back as events too; only what contradicts the desired state needs a look. */
  #isDrift(event: HostEvent & { type: 'own-route' }): boolean {
    const route = this.#desired?.routes.get(formatPrefix(event.route.prefix));
    if (event.change === 'deleted') return route !== undefined;
    return route === undefined || !isSameRoute(route, event.route);
  }

  // --- the cycle ---

  #notify(): void {
    this.#woken = true;
    this.#wake();
  }

  async #cycles(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#notify(), { once: true });
    let recheckAt = this.#o.clock.monotonicMs() + RECHECK_MS;
    let routesAt = this.#o.clock.monotonicMs() + ROUTES_RECHECK_MS;
    while (!signal.aborted) {
      await this.#waitUntil(recheckAt);
      if (signal.aborted) return;
      const due = this.#o.clock.monotonicMs() >= recheckAt;
      if (due) this.#settingsStale = true;
      if (this.#o.clock.monotonicMs() >= routesAt || (due && this.#failed.length > 0)) {
        this.#factsStale = this.#hostStale = true;
        routesAt = this.#o.clock.monotonicMs() + ROUTES_RECHECK_MS;
      }
      try {
        await this.#cycle();
        this.#failure = null;
      } catch (error) {
        this.#failure = (error as Error).message;
        this.#o.logger.error({ error }, 'reconciling failed; it is tried again');
        // Nothing is known of what was done: take everything afresh.
        this.#resynced = this.#factsStale = this.#hostStale = true;
      }
      const troubled = this.#failed.length > 0 || this.#failure !== null;
      if (due || troubled) recheckAt = this.#o.clock.monotonicMs() + (troubled ? RETRY_MS : RECHECK_MS);
    }
  }

  /** Until the time, or until something is to be done: the signal's abort is one of these things. */
  async #waitUntil(timeMs: number): Promise<void> {
    if (this.#woken) {
      this.#woken = false;
      return;
    }
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const left = Math.max(0, timeMs - this.#o.clock.monotonicMs());
    await Promise.race([woken, this.#o.clock.sleep(left, timer.signal).catch(() => {})]);
    timer.abort();
    this.#woken = false;
  }

  async #cycle(): Promise<void> {
    if (!this.#isWhole() || !this.view.datastoreReady) return;
    const revision = this.#seen;
    const changes = this.#pending.splice(0);
    const [resynced, factsStale, hostStale] = [this.#resynced, this.#factsStale, this.#hostStale];
    const settingsStale = this.#settingsStale;
    this.#resynced = this.#factsStale = this.#hostStale = this.#settingsStale = false;
    if (!this.#desired || !this.#observed) await this.#first();
    else {
      const desired = this.#desired;
      const parts: DesiredChange[] = [];
      if (resynced) parts.push(desired.rebuild());
      else if (changes.length) parts.push(desired.update(changes));
      if (factsStale) parts.push(desired.setFacts(await this.#o.host.facts()));
      else if (changes.some((change) => this.#isNewWorkload(change, desired))) this.recheck();
      if (this.#tunnelAddress !== undefined) parts.push(desired.setTunnelAddress(this.#tunnelAddress));
      await this.#tellDataPlane(parts.flatMap((part) => part.operations));
      const routes = new Set([...parts.flatMap((part) => part.routes), ...this.#takeDrift(this.#observed)]);
      if (settingsStale && !hostStale) await this.#lookAtSettings(desired);
      await this.#tellHost(desired, hostStale || factsStale || resynced ? 'all' : routes);
    }
    this.#applied = revision;
    if (resynced) this.#o.onResynced?.();
  }

  #isWhole(): boolean {
    if (this.#seen === '') return false;
    // Of the registration that came before us, and whose own write the watch brings.
    return this.#applied !== '' || BigInt(this.#seen) >= BigInt(this.#since);
  }

  /**
   * Believes the kernel about these routes alone. News that our own later change has overtaken costs one more
   * replace by the same route, where a look at everything would cost 20,000 routes.
   */
  #takeDrift(observed: ObservedState): string[] {
    const drifted = [...this.#drifted];
    this.#drifted.clear();
    for (const [key, route] of drifted) {
      if (route) observed.routes.set(key, route);
      else observed.routes.delete(key);
    }
    return drifted.map(([key]) => key);
  }

  /** A workload of ours whose interface we have not heard of yet: it may be a moment older than its endpoint. */
  #isNewWorkload(change: ViewChange, desired: DesiredState): boolean {
    const workload = change.type === 'workload' ? this.view.workloads.get(change.key) : undefined;
    return workload?.node === this.#o.settings.node && !desired.knowsLink(workload.device);
  }

  /** The first time: everything at once. */
  async #first(): Promise<void> {
    const facts = await this.#o.host.facts();
    const desired = new DesiredState(this.#o.settings, this.view, facts);
    // The host is looked at while the packet threads lay their tables.
    await Promise.all([
      this.#sink!.replace(desired.forwarding(++this.#forwardingRevision)),
      this.#observe(desired),
    ]);
    this.#desired = desired;
    await this.#layHost(desired, 'all');
  }

  async #tellDataPlane(operations: DesiredChange['operations']): Promise<void> {
    if (!operations.length) return;
    const change = { revision: ++this.#forwardingRevision, operations };
    if ((await this.#sink!.change(change)) === 'gap')
      await this.#sink!.replace(this.#desired!.forwarding(this.#forwardingRevision));
  }

  /** All of the host's state that is ours but for the routes. */
  async #lookAtSettings(desired: DesiredState): Promise<void> {
    const { host, settings } = this.#o;
    const { sysctls } = desired.hostWithoutRoutes();
    const now = await host.observe(settings.device, sysctls.keys(), 'settings');
    this.#observed = new ObservedState({ ...now, routes: this.#observed?.routes ?? now.routes });
  }

  async #tellHost(desired: DesiredState, what: 'all' | ReadonlySet<string>): Promise<void> {
    if (what === 'all') await this.#observe(desired);
    await this.#layHost(desired, what);
  }

  async #observe(desired: DesiredState): Promise<void> {
    const { host, settings } = this.#o;
    const { sysctls } = desired.hostWithoutRoutes();
    this.#observed = new ObservedState(await host.observe(settings.device, sysctls.keys()));
  }

  async #layHost(desired: DesiredState, what: 'all' | ReadonlySet<string>): Promise<void> {
    const { host } = this.#o;
    const wanted = desired.hostWithoutRoutes();
    const observed = this.#observed!;
    // A sysctl that came with the change (a new workload's interface) has not been observed yet.
    const unknown = [...wanted.sysctls.keys()].filter((name) => !observed.sysctls.has(name));
    if (what !== 'all' && unknown.length)
      for (const [name, value] of await host.readSysctls(unknown)) observed.sysctls.set(name, value);
    this.#failed = [];
    const routesBefore = observed.routes.size;
    await this.#apply(diffSettings(wanted, observed), observed);
    const lost = observed.routes.size < routesBefore;
    await this.#apply(
      what === 'all' || lost
        ? diffAllRoutes(desired.host().routes, observed.routes)
        : diffRoutes(what, desired.routes, observed.routes),
      observed,
    );
  }

  async #apply(steps: readonly PlanStep[], observed: ObservedState): Promise<void> {
    const blocked: FailedStep[] = [];
    const allowed = steps.filter((step) => {
      const other = step.op === 'set-route' && this.#desired?.foreignRoute(step.route.prefix);
      if (other) blocked.push({ step, reason: `a route of somebody else is there: ${formatForeign(other)}` });
      return !other;
    });
    const failures = [...blocked, ...(allowed.length ? await this.#applyAllowed(allowed, observed) : [])];
    for (const { step, reason } of failures) {
      const text = formatPlan([step]).trimEnd();
      // Said once, and again only after it has worked in between: it is tried every second.
      if (!this.#complaints.has(text)) this.#o.logger.warn({ step: text, reason }, 'the host refused a step');
      this.#complaints.add(text);
    }
    this.#failed = [...this.#failed, ...failures];
  }

  async #applyAllowed(steps: readonly PlanStep[], observed: ObservedState): Promise<readonly FailedStep[]> {
    const few = steps.slice(0, MOST_STEPS_LOGGED);
    this.#o.logger.debug(
      { count: steps.length, steps: formatPlan(few).trimEnd().split('\n') },
      'changing the host',
    );
    const failures = await this.#o.host.apply(steps);
    const failed = new Set(failures.map((f) => f.step));
    for (const step of steps) {
      if (failed.has(step)) continue;
      observed.take(step);
      if (this.#complaints.size) this.#complaints.delete(formatPlan([step]).trimEnd());
    }
    return failures;
  }
}

function formatForeign(route: ForeignRoute): string {
  const via = route.via === null ? '' : ` via ${formatIpv4(route.via)}`;
  return `${formatPrefix(route.prefix)}${via}${route.device === null ? '' : ` dev ${route.device}`}`;
}
