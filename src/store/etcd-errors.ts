/** A failed request to etcd, as an error that a person can act on. */
import { connect as tlsConnect } from 'node:tls';
import { InvalidError } from '../base/errors.ts';
import type { EtcdConnection } from './connection.ts';
import { DatastoreUnavailableError } from './datastore.ts';
import type { EtcdFailure } from './etcd-failure.ts';

export interface FailedRequest {
  /** `create /calico/…`: completes "could not". */
  readonly action: string;
  readonly url: string;
  readonly connection: EtcdConnection;
  readonly valueBytes?: number | undefined;
}

const PROBE_MS = 1_500;

export async function explainEtcdFailure(failure: EtcdFailure, request: FailedRequest): Promise<Error> {
  const { action, url, connection } = request;
  const unavailable = (says: string, retryable: boolean, hint: string) =>
    new DatastoreUnavailableError(`the datastore ${url} could not ${action}: ${says}`, retryable, {
      hint,
      cause: failure,
    });
  switch (failure.kind) {
    case 'too large':
      return new InvalidError(
        'ERR_STORE_TOO_LARGE',
        `the datastore ${url} could not ${action}: the value has ${request.valueBytes ?? 'too many'} bytes, ` +
          `etcd takes at most 1.5 MiB in a request (${failure.details})`,
        {
          hint: 'Make the object smaller, or raise --max-request-bytes of every etcd member.',
          cause: failure,
        },
      );
    case 'no space':
      return unavailable(
        'etcd has reached its space quota',
        true,
        'Compact and defragment etcd, then: etcdctl alarm disarm.',
      );
    case 'credentials':
    case 'token':
      return unavailable(
        connection.username === undefined
          ? `etcd wants a user name and a password (${failure.details})`
          : `etcd refuses the user ${JSON.stringify(connection.username)} or the password (${failure.details})`,
        false,
        'Set ETCD_USERNAME and ETCD_PASSWORD, or etcdUsername and etcdPassword in the -c file.',
      );
    case 'permission':
      return unavailable(
        `etcd's user ${JSON.stringify(connection.username ?? '')} may not (${failure.details})`,
        false,
        'Grant its role read and write on the prefix /calico/: etcdctl role grant-permission.',
      );
    case 'tls':
    case 'unreachable':
      return explainUnreachable(failure, connection, unavailable);
    case 'compacted':
    case 'other':
      return unavailable(failure.details, false, 'The words are those of etcd.');
  }
}

type Unavailable = (says: string, retryable: boolean, hint: string) => DatastoreUnavailableError;

/** What a plain server makes of a handshake; so does a load balancer with nobody behind it. */
const CLOSED = /disconnected before secure TLS|socket hang up|ECONNRESET/i;
const PLAIN_HINT = 'Use etcd:// or http:// for a port without TLS.';

/** Words of a failed handshake, what they mean, what to do. */
const TLS_PROBLEMS: readonly (readonly [RegExp, string, string])[] = [
  [
    /self.signed certificate|unable to (get|verify)|unknown ca/i,
    "etcd's certificate is of an authority that is not known here",
    'Name its CA certificate: ETCD_CA_CERT_FILE, or etcdCACertFile in the -c file.',
  ],
  [
    /altnames|does not match certificate/i,
    "etcd's certificate is for another name",
    'Use a name or address that the certificate has.',
  ],
  [
    /certificate has expired|not yet valid/i,
    "etcd's certificate is not valid today",
    'Renew it, or set the clock.',
  ],
  [
    /wrong version number|packet length too long|record layer|EPROTO/i,
    'etcd does not speak TLS there',
    PLAIN_HINT,
  ],
  [
    /bad certificate|certificate required|handshake failure/i,
    'etcd wants a client certificate that it accepts',
    'Name it and its key: ETCD_CERT_FILE and ETCD_KEY_FILE, or etcdCertFile and etcdKeyFile in the -c file.',
  ],
];

async function explainUnreachable(
  failure: EtcdFailure,
  connection: EtcdConnection,
  unavailable: Unavailable,
): Promise<Error> {
  const probed = await probe(connection);
  if (!connection.tls && probed === 'TLS')
    return unavailable(
      'that port speaks TLS, we spoke in plain',
      false,
      'Use etcds:// or https://, and ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE as etcd demands.',
    );
  const words = `${failure.details} ${probed ?? ''}`;
  const problem = connection.tls ? TLS_PROBLEMS.find(([pattern]) => pattern.test(words)) : undefined;
  if (problem) return unavailable(`${problem[1]} (${probed ?? failure.details})`, false, problem[2]);
  if (connection.tls && CLOSED.test(words))
    return unavailable('etcd does not speak TLS there, or nobody is behind that port', true, PLAIN_HINT);
  return unavailable(
    failure.sent
      ? `no answer (${failure.details}); a change may have been made or not`
      : `no member can be reached (${failure.details})`,
    true,
    failure.sent ? 'Read it again before the next try.' : 'Is etcd running, and is this its address?',
  );
}

/**
 * What a TLS handshake with the first endpoint says: `TLS` where it is answered, else the problem's words.
 * grpc-js tells only that no connection came about.
 */
function probe(connection: EtcdConnection): Promise<string | undefined> {
  const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(connection.endpoints[0] ?? '') ?? [];
  return new Promise((resolve) => {
    const socket = tlsConnect({
      host: host.replace(/^\[|\]$/g, ''),
      port: Number(port),
      ALPNProtocols: ['h2'],
      rejectUnauthorized: connection.tls,
      ...(connection.ca !== undefined && { ca: connection.ca }),
      ...(connection.certificate !== undefined && { cert: connection.certificate }),
      ...(connection.key !== undefined && { key: connection.key }),
      timeout: PROBE_MS,
    });
    const end = (result: string | undefined) => {
      socket.destroy();
      resolve(result);
    };
    // A client certificate is asked for after the handshake (TLS 1.3): give the alert time to come.
    socket.once('secureConnect', () => (connection.tls ? undefined : end('TLS')));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const answered = /alert|handshake|certificate/i.test(error.message);
      end(!connection.tls && answered ? 'TLS' : `${error.code ?? ''} ${error.message}`.trim());
    });
    socket.once('timeout', () => end(undefined));
    socket.once('close', () => end(undefined));
  });
}
