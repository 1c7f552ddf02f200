/**
 * One etcd member, by the `etcd3` package: its connections, authentication and message types. Its own retries,
 * breakers and watch manager are not used: what was sent is not known to them (a write that may have happened
 * must not be sent twice), and after a reconnection its watches go on from the revision of the member that
 * answers and not from the last event that came, which loses changes when the connection breaks again.
 */
import { noop } from 'cockatiel';
import {
  Etcd3,
  type IOptions,
  type IRangeRequest,
  type IRangeResponse,
  type ITxnRequest,
  type ITxnResponse,
  type IWatchCreateRequest,
  type IWatchResponse,
} from 'etcd3';
import type { EtcdConnection } from './connection.ts';
import { EtcdFailure, failureOf } from './etcd-failure.ts';
import { decodeRange, type RangePage } from './etcd-range.ts';

/** One attempt; an election takes a second or two. */
export const ATTEMPT_MS = 4_000;

const GRPC_OPTIONS = {
  // A listing of 20,000 blocks is far beyond the default of 4 MB, even page by page.
  'grpc.max_receive_message_length': -1,
  // HTTP/2's 64 KB would make the member wait for us many times a page.
  'grpc-node.flow_control_window': 4 << 20,
  // What goes over the limits of the server is the server's to refuse.
  'grpc.max_send_message_length': -1,
  // A peer that vanished without a word is noticed in 10 s; etcd refuses more than a ping in 5 s.
  'grpc.keepalive_time_ms': 7_000,
  'grpc.keepalive_timeout_ms': 3_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  // A new client makes a new connection, instead of sharing one that is stuck in a partition.
  'grpc.use_local_subchannel_pool': 1,
};

/** The duplex stream of etcd's Watch service, as far as it is used. */
export interface WatchStream {
  on(event: 'data', listener: (response: IWatchResponse) => void): this;
  on(event: 'error', listener: (error: Error) => void): this;
  on(event: 'end', listener: () => void): this;
  write(request: { create_request: IWatchCreateRequest }): void;
  cancel(): void;
}

/** What grpc-js makes of a service: a class with one method per call, and this one under them all. */
interface GeneratedClient {
  readonly constructor: {
    readonly service: {
      readonly Range: { readonly path: string; readonly requestSerialize: (request: object) => Buffer };
    };
  };
  makeUnaryRequest<Response>(
    path: string,
    serialize: (request: object) => Buffer,
    deserialize: (bytes: Buffer) => Response,
    request: object,
    metadata: unknown,
    options: { deadline: number },
    done: (error: Error | null, response: Response) => void,
  ): void;
}

type Call = (
  payload: unknown,
  metadata: unknown,
  options: { deadline: number },
  done: (error: Error | null, response: unknown) => void,
) => void;

export class EtcdClient extends Etcd3 {
  readonly endpoint: string;

  constructor(endpoint: string, connection: EtcdConnection) {
    super({
      hosts: `${connection.tls ? 'https' : 'http'}://${endpoint}`,
      grpcOptions: GRPC_OPTIONS,
      faultHandling: { host: () => noop, global: noop },
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + ATTEMPT_MS }),
      ...(connection.tls && { credentials: credentialsOf(connection) }),
      ...(connection.username !== undefined && {
        auth: { username: connection.username, password: connection.password ?? '' },
      }),
    });
    this.endpoint = endpoint;
  }

  /** @throws EtcdFailure */
  read(request: IRangeRequest): Promise<IRangeResponse> {
    return this.#call('range', request) as Promise<IRangeResponse>;
  }

  /** As `read`, for thousands of keys. @throws EtcdFailure */
  readPage(request: IRangeRequest): Promise<RangePage> {
    return this.#with('KV', ({ client, metadata }) => {
      const generated = client as unknown as GeneratedClient;
      const { path, requestSerialize } = generated.constructor.service.Range;
      return new Promise((resolve, reject) => {
        const done = (error: Error | null, page: RangePage) =>
          error ? reject(failureOf(error)) : resolve(page);
        const options = { deadline: Date.now() + ATTEMPT_MS };
        generated.makeUnaryRequest(path, requestSerialize, decodeRange, request, metadata, options, done);
      });
    });
  }

  /** @throws EtcdFailure */
  write(request: ITxnRequest): Promise<ITxnResponse> {
    return this.#call('txn', request) as Promise<ITxnResponse>;
  }

  /** A stream that the member ends when it has lost the leader, instead of staying silent. @throws EtcdFailure */
  openWatch(): Promise<WatchStream> {
    return this.#with('Watch', ({ client, metadata }) => {
      const withLeader = metadata.clone();
      withLeader.set('hasleader', 'true');
      return (client as unknown as { watch(metadata: unknown): WatchStream }).watch(withLeader);
    });
  }

  #call(method: 'range' | 'txn', payload: unknown): Promise<unknown> {
    return this.#with('KV', ({ client, metadata }) => {
      const call = (client as unknown as Record<string, Call>)[method]!.bind(client);
      return new Promise((resolve, reject) => {
        call(payload, metadata, { deadline: Date.now() + ATTEMPT_MS }, (error, response) => {
          if (error) reject(failureOf(error));
          else resolve(response);
        });
      });
    });
  }

  async #with<T>(
    service: 'KV' | 'Watch',
    use: Parameters<typeof this.pool.withConnection<T>>[1],
  ): Promise<T> {
    try {
      return await this.pool.withConnection<T>(service, use);
    } catch (error) {
      // What etcd3 throws by itself comes from authenticating, before our own request.
      throw error instanceof EtcdFailure ? error : failureOf(error, 'not sent');
    }
  }
}

function credentialsOf({ ca, certificate, key }: EtcdConnection): NonNullable<IOptions['credentials']> {
  return {
    // Without a CA of its own the system's are asked; etcd3 hands this on to grpc-js, which takes null for it.
    rootCertificate: (ca === undefined ? null : Buffer.from(ca)) as Buffer,
    ...(certificate !== undefined && { certChain: Buffer.from(certificate) }),
    ...(key !== undefined && { privateKey: Buffer.from(key) }),
  };
}
