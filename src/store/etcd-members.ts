/**
 * The members of an etcd cluster as one: a request goes to the member that answered last, and on to the next
 * ones when it does not answer. Reads are tried again wherever they failed. A write is tried again only where
 * it cannot have been sent: one that was may have happened, and only its author can tell what to do then.
 */
import type { IRangeRequest, IRangeResponse, ITxnRequest, ITxnResponse } from 'etcd3';
import type { Clock } from '../base/clock.ts';
import type { EtcdConnection } from './connection.ts';
import { ATTEMPT_MS, EtcdClient, type WatchStream } from './etcd-client.ts';
import { type EtcdFailure, failureOf } from './etcd-failure.ts';
import type { RangePage } from './etcd-range.ts';

/** How long a request may take in all; less where nobody is even listening. */
const REQUEST_MS = 12_000;
const REFUSED_MS = 3_000;

/** Between rounds over all members. */
const PAUSE_MS = { first: 50, most: 800 };

export class EtcdMembers {
  readonly #clock: Clock;
  readonly #connection: EtcdConnection;
  readonly #clients: EtcdClient[];
  /** Index of the member that answered last. */
  #preferred = 0;
  readonly #closing = new AbortController();

  constructor(connection: EtcdConnection, clock: Clock) {
    this.#clock = clock;
    this.#connection = connection;
    this.#clients = connection.endpoints.map((endpoint) => new EtcdClient(endpoint, connection));
  }

  /** @throws EtcdFailure */
  read(request: IRangeRequest): Promise<IRangeResponse> {
    return this.#request((client) => client.read(request), 'read');
  }

  /** As `read`, for thousands of keys. @throws EtcdFailure */
  readPage(request: IRangeRequest): Promise<RangePage> {
    return this.#request((client) => client.readPage(request), 'read');
  }

  /** @throws EtcdFailure; one that was `sent` may have happened */
  write(request: ITxnRequest): Promise<ITxnResponse> {
    return this.#request((client) => client.write(request), 'write');
  }

  /** Of the member that answered last; `next` begins with the one after it. @throws EtcdFailure */
  async openWatch(): Promise<{ stream: WatchStream; next: () => void }> {
    const index = this.#preferred;
    const client = this.#clients[index]!;
    const next = () => {
      // A token that the member does not know, or a connection that hangs: a new client has neither.
      this.#renew(index, client);
      if (this.#preferred === index) this.#preferred = (index + 1) % this.#clients.length;
    };
    try {
      return { stream: await client.openWatch(), next };
    } catch (error) {
      next();
      throw error;
    }
  }

  close(): void {
    this.#closing.abort();
    for (const client of this.#clients) client.close();
  }

  async #request<T>(send: (client: EtcdClient) => Promise<T>, type: 'read' | 'write'): Promise<T> {
    const start = this.#clock.monotonicMs();
    let pauseMs = PAUSE_MS.first;
    let budgetMs = REFUSED_MS;
    let renewed = false;
    for (let attempt = 1; ; attempt += 1) {
      const index = this.#preferred;
      const client = this.#clients[index]!;
      try {
        return await send(client);
      } catch (error) {
        const failure = failureOf(error);
        if (failure.kind === 'token' && !renewed) {
          renewed = true;
          this.#renew(index, client);
          continue;
        }
        if (this.#closing.signal.aborted || !this.#mayTryAgain(failure, type, attempt)) throw failure;
        if (failure.sent || failure.details.includes('Deadline')) budgetMs = REQUEST_MS;
        if (this.#preferred === index) this.#preferred = (index + 1) % this.#clients.length;
        // Every member is asked once: a host that is gone takes 3 s to refuse (EHOSTUNREACH), the next one may be well.
        if (attempt >= this.#clients.length && this.#clock.monotonicMs() - start > budgetMs) throw failure;
        if (attempt % this.#clients.length !== 0) continue;
        await this.#clock.sleep(pauseMs);
        pauseMs = Math.min(2 * pauseMs, PAUSE_MS.most);
      }
    }
  }

  #mayTryAgain(failure: EtcdFailure, type: 'read' | 'write', attempt: number): boolean {
    // Another member may have a better certificate; the same one will not have it in a second.
    if (failure.kind === 'tls') return attempt < this.#clients.length;
    return failure.kind === 'unreachable' && !(type === 'write' && failure.sent);
  }

  /** A new client in place of one, unless somebody did so already; what the old one has under way may end. */
  #renew(index: number, old: EtcdClient): void {
    if (this.#closing.signal.aborted || this.#clients[index] !== old) return;
    this.#clients[index] = new EtcdClient(old.endpoint, this.#connection);
    void this.#clock
      .sleep(ATTEMPT_MS, this.#closing.signal)
      .catch(() => {})
      .then(() => old.close());
  }
}
