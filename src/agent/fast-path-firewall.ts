/**
 * What of the host has a say about outer packets, and therefore keeps a direction of the fast path off: chains of its
 * firewall, and IPsec policies, since what the programs send and take goes around both. Judged anew where rules change (the
 * kernel tells), where our outer addresses change, and every JUDGE_MAX_MS.
 */
import type { OuterFirewall } from '../host/outer-firewall.ts';
import type { OwnAddresses } from '../host/outer-packet.ts';
import { watchReadable } from '../io/readiness.ts';
import { openFirewallSocket, openIpsecSocket, type RouteSocket } from '../io/route-socket.ts';
import { legacyTables } from './legacy-tables.ts';

/** Not more often: some hosts have tens of thousands of rules, and change them all the time. */
const JUDGE_MIN_MS = 1000;
const JUDGE_MAX_MS = 60_000;
const REST_MS = 100;

export interface FirewallQuestion {
  /** What is in the way in each direction, in words. */
  readonly firewall: (legacyTables: string, own: OwnAddresses) => Promise<OuterFirewall>;
  /** Leads into the device's namespace. */
  readonly enter: <T>(fn: () => T) => T;
}

const both = (why: string): OuterFirewall => ({ outbound: why, inbound: why });
const textOf = ({ outbound, inbound }: OwnAddresses) => `${[...outbound].sort()} ${[...inbound].sort()}`;

export function judgeOnce(question: FirewallQuestion, own: OwnAddresses): Promise<OuterFirewall> {
  return question
    .firewall(question.enter(legacyTables), own)
    .catch((error: Error) => both(`a firewall that cannot be read (${error.message})`));
}

export class FirewallJudge {
  readonly #question: FirewallQuestion;
  readonly #onVerdict: () => void;
  readonly #sockets: readonly RouteSocket[];
  readonly #watches: readonly { stop(): Promise<void> }[];
  #verdict: OuterFirewall;
  #own: OwnAddresses;
  #isStale = false;
  #isJudging = false;
  #judgedMs: number;

  /** `first` is what was judged for `own`. */
  constructor(question: FirewallQuestion, first: OuterFirewall, own: OwnAddresses, onVerdict: () => void) {
    this.#question = question;
    this.#verdict = first;
    this.#own = own;
    this.#onVerdict = onVerdict;
    this.#judgedMs = performance.now();
    this.#sockets = question.enter(() => [openFirewallSocket(), openIpsecSocket() ?? []].flat());
    this.#watches = this.#sockets.map((socket) =>
      watchReadable(socket.fd, () => this.#hear(socket), REST_MS),
    );
  }

  get verdict(): OuterFirewall {
    return this.#verdict;
  }

  /**
   * The addresses that our outer packets leave from and arrive at; none where there is nobody to send to yet. Where they
   * are others, nothing goes around before it is judged.
   */
  setOwn({ outbound, inbound }: OwnAddresses): void {
    const own = { outbound: outbound.length > 0 ? outbound : this.#own.outbound, inbound };
    if (textOf(own) === textOf(this.#own)) return;
    this.#own = own;
    this.#verdict = both('a firewall that was not asked about our addresses yet');
    this.#isStale = true;
    if (!this.#isJudging) void this.#judge();
  }

  tick(nowMs: number): void {
    const sinceMs = nowMs - this.#judgedMs;
    if (this.#isJudging || sinceMs < JUDGE_MIN_MS) return;
    if (this.#isStale || sinceMs >= JUDGE_MAX_MS) void this.#judge();
  }

  close(): void {
    void Promise.all(this.#watches.map((watch) => watch.stop())).then(() => {
      for (const socket of this.#sockets) socket.close();
    });
  }

  #hear(socket: RouteSocket): void {
    this.#isStale = true;
    try {
      while (socket.receive() !== null);
    } catch {
      // What cannot be heard is asked for: the look that is due now, and the one that comes every minute.
    }
  }

  async #judge(): Promise<void> {
    this.#isJudging = true;
    this.#isStale = false;
    this.#judgedMs = performance.now();
    const own = this.#own;
    const verdict = await judgeOnce(this.#question, own);
    this.#isJudging = false;
    // Addresses that changed meanwhile are still to be asked about.
    if (own !== this.#own) return void this.#judge();
    this.#verdict = verdict;
    this.#onVerdict();
  }
}
