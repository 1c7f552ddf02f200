/**
 * What of the host has a say about outer packets, and therefore keeps off what would go around it (frames of our own, a
 * direction of the fast path): chains of its firewall, IPsec policies, rules of policy routing by protocol. Judged anew
 * where one of them changes (the kernel tells), where our outer addresses change, and every JUDGE_MAX_MS, since not all of
 * it is told (iptables-legacy).
 */
import type { OuterFirewall } from '../host/outer-firewall.ts';
import { readOuterObstacles } from '../host/outer-obstacles.ts';
import type { OwnAddresses } from '../host/outer-packet.ts';
import { watchReadable } from '../io/readiness.ts';
import { openRouteLookup } from '../io/route-lookup.ts';
import { openFirewallSocket, openIpsecSocket, openRuleSocket, type RouteSocket } from '../io/route-socket.ts';
import { type Ipv4, ipv4 } from '../ip/ipv4.ts';
import { legacyTables } from './legacy-tables.ts';

/** Not more often: some hosts have tens of thousands of rules, and change them all the time. */
const JUDGE_MIN_MS = 1000;
const JUDGE_MAX_MS = 30_000;
/** Rules that are set one by one are read together. */
const REST_MS = 100;
/** Reserved for documentation (RFC 5737): the way there is the default route's, which says what our packets leave by. */
const FAR_AWAY = ipv4('198.51.100.1');

export interface FirewallQuestion {
  /** What is in the way in each direction, in words. */
  readonly firewall: (legacyTables: string, own: OwnAddresses) => Promise<OuterFirewall>;
  /** Leads into the device's namespace. */
  readonly enter: <T>(fn: () => T) => T;
}

export interface Judgement {
  readonly verdict: OuterFirewall;
  /** What it was judged for. */
  readonly own: OwnAddresses;
}

export interface FirewallJudgeOptions extends FirewallQuestion {
  /** What is known; else nothing is judged before `setOwn`. */
  readonly first?: Judgement;
  /** Of a change that is not read yet: the verdict before it stands, or it is taken for one that forbids. */
  readonly unread: 'stands' | 'forbids';
  readonly onVerdict: () => void;
}

const both = (why: string): OuterFirewall => ({ outbound: why, inbound: why });
const UNREAD = both('a firewall that has not been read yet');
const textOf = ({ outbound, inbound }: OwnAddresses) => `${[...outbound].sort()} ${[...inbound].sort()}`;

/** The firewall, and IPsec, of the namespace that this process is in. */
export function hostFirewall(tunnelDevice: string): FirewallQuestion['firewall'] {
  return (legacyTables, own) => readOuterObstacles({ legacyTables, tunnelDevice, own });
}

/** Before the first configuration, which says it better: judged for the source that is set, or the default route's. */
export async function judgeAtFirst(question: FirewallQuestion, local: Ipv4 | null): Promise<Judgement> {
  const source = local ?? question.enter(sourceOfDefaultRoute);
  const own = source === null ? [] : [source];
  const ends = { outbound: own, inbound: own };
  return { verdict: await judge(question, ends), own: ends };
}

function sourceOfDefaultRoute(): Ipv4 | null {
  const ways = openRouteLookup();
  try {
    return ways.wayTo(FAR_AWAY).source;
  } finally {
    ways.close();
  }
}

async function judge({ firewall, enter }: FirewallQuestion, own: OwnAddresses): Promise<OuterFirewall> {
  try {
    return await firewall(enter(legacyTables), own);
  } catch (error) {
    return both(`a firewall that cannot be read (${(error as Error).message})`);
  }
}

export class FirewallJudge {
  readonly #options: FirewallJudgeOptions;
  readonly #sockets: readonly RouteSocket[];
  readonly #watches: readonly { stop(): Promise<void> }[];
  #verdict = UNREAD;
  #own: OwnAddresses | null = null;
  #isStale = false;
  #isJudging = false;
  #judgedMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: FirewallJudgeOptions) {
    this.#options = options;
    if (options.first) {
      this.#verdict = options.first.verdict;
      this.#own = options.first.own;
      this.#judgedMs = performance.now();
    }
    this.#sockets = options.enter(() =>
      [openFirewallSocket(), openRuleSocket(), openIpsecSocket() ?? []].flat(),
    );
    this.#watches = this.#sockets.map((socket) =>
      watchReadable(socket.fd, () => this.#hear(socket), REST_MS),
    );
    this.#plan();
  }

  get verdict(): OuterFirewall {
    return this.#verdict;
  }

  /** Whether the verdict is that nothing is known yet. */
  get isUnread(): boolean {
    return this.#verdict === UNREAD;
  }

  /**
   * The addresses that our outer packets leave from and arrive at; none where there is nobody to send to yet. Where they
   * are others, nothing goes around before it is judged.
   */
  setOwn({ outbound, inbound }: OwnAddresses): void {
    const own = { outbound: outbound.length > 0 ? outbound : (this.#own?.outbound ?? []), inbound };
    if (this.#own !== null && textOf(own) === textOf(this.#own)) return;
    this.#own = own;
    this.#verdict = UNREAD;
    if (!this.#isJudging) void this.#judge();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    void Promise.all(this.#watches.map((watch) => watch.stop())).then(() => {
      for (const socket of this.#sockets) socket.close();
    });
  }

  #hear(socket: RouteSocket): void {
    this.#isStale = true;
    try {
      while (socket.receive() !== null);
    } catch {
      // What cannot be heard is asked for: the look that is due now, and those every JUDGE_MAX_MS.
    }
    if (this.#options.unread === 'forbids' && !this.isUnread) {
      this.#verdict = UNREAD;
      this.#options.onVerdict();
    }
    this.#plan();
  }

  /** The next look: soon where something has changed. */
  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#isClosed || this.#isJudging || this.#own === null) return;
    const dueMs = this.#judgedMs + (this.#isStale ? JUDGE_MIN_MS : JUDGE_MAX_MS);
    this.#timer = setTimeout(() => void this.#judge(), Math.max(REST_MS, dueMs - performance.now()));
    this.#timer.unref();
  }

  async #judge(): Promise<void> {
    const own = this.#own;
    if (own === null) return;
    clearTimeout(this.#timer);
    this.#isJudging = true;
    this.#isStale = false;
    const verdict = await judge(this.#options, own);
    this.#isJudging = false;
    this.#judgedMs = performance.now();
    if (this.#isClosed) return;
    // Addresses that changed meanwhile are still to be asked about.
    if (own !== this.#own) return void this.#judge();
    if (!this.#isStale || this.#options.unread === 'stands') {
      this.#verdict = verdict;
      this.#options.onVerdict();
    }
    this.#plan();
  }
}
