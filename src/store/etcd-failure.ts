/** What went wrong with a request to etcd: what kind of failure, and whether etcd may have done it all the same. */
import { RecoverableError } from 'etcd3';

export type FailureKind =
  | 'unreachable'
  /** No connection, for a reason that time does not mend. */
  | 'tls'
  /** The token that we authenticated for is not known (any more): authenticate again. */
  | 'token'
  | 'credentials'
  | 'permission'
  | 'too large'
  | 'no space'
  | 'compacted'
  | 'other';

/** gRPC status codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const INTERNAL = 13;
const UNAVAILABLE = 14;

/** etcd's own words (rpctypes), and gRPC's for a message over the limit. */
const WORDS: readonly (readonly [RegExp, FailureKind])[] = [
  [/invalid auth token|revision of auth store is old/, 'token'],
  [/authentication failed|user name is empty|authentication is not enabled/, 'credentials'],
  [/permission denied/, 'permission'],
  [/request is too large|message larger than max/, 'too large'],
  [/database space exceeded/, 'no space'],
  [/has been compacted/, 'compacted'],
  [/certificate|altnames|unable to verify|wrong version number|EPROTO|SSL alert/i, 'tls'],
  [/no leader|leader changed|request timed out|too many requests|server stopped|not healthy/, 'unreachable'],
];

/** Said by grpc-js before any byte of the request is on a connection. */
const NOT_SENT =
  /No connection established|Name resolution failed|Failed to connect|Waiting for LB pick|ECONNREFUSED|Channel has been shut down/;

export class EtcdFailure extends Error {
  readonly kind: FailureKind;
  /** In etcd's or gRPC's words, without their wrapping. */
  readonly details: string;
  /** The request may have reached etcd. */
  readonly sent: boolean;

  constructor(kind: FailureKind, details: string, sent: boolean, cause: unknown) {
    super(details, { cause });
    this.kind = kind;
    this.details = details;
    this.sent = sent;
    // Makes etcd3 drop a connection that never came up, so that the next attempt begins a new one.
    if (!sent) Object.assign(this, { [RecoverableError]: true });
  }
}

/** From what grpc-js or etcd3 threw. `not sent` where the caller knows better. */
export function failureOf(error: unknown, sent?: 'not sent'): EtcdFailure {
  if (error instanceof EtcdFailure) return error;
  const message = error instanceof Error ? error.message : String(error);
  const match = /^(?:\w+: )?(\d+) [A-Z_]+: (.*)$/s.exec(message);
  const code = match ? Number(match[1]) : undefined;
  const details = (match?.[2] ?? message).replace(/^etcdserver: /, '');
  return new EtcdFailure(
    kindOf(code, details),
    details,
    sent !== 'not sent' && !NOT_SENT.test(details),
    error,
  );
}

function kindOf(code: number | undefined, details: string): FailureKind {
  const said = WORDS.find(([words]) => words.test(details));
  if (said) return said[1];
  return code === UNAVAILABLE || code === DEADLINE_EXCEEDED || code === CANCELLED || code === INTERNAL
    ? 'unreachable'
    : 'other';
}
