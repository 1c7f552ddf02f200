/** What a person reads when etcd refuses or cannot be reached: each with what to do. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { TortieError } from '../../src/base/errors.ts';
import { resolveConnection } from '../../src/store/connection.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { EtcdStore } from '../../src/store/etcd-store.ts';
import { openDatastore } from '../../src/store/open.ts';
import { EtcdCluster, makeCertificates } from '../helpers/etcd-cluster.ts';

const KEY = '/calico/test';

let plain: EtcdCluster;
let secure: EtcdCluster;
let directory: string;
const opened: Datastore[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-etcd-errors-'));
  [plain, secure] = await Promise.all([EtcdCluster.start(), EtcdCluster.start({ tls: true })]);
  await plain.run('user', 'add', 'root:secret');
  await plain.run('user', 'grant-role', 'root', 'root');
  await plain.run('user', 'add', 'guest:guest');
  await plain.run('auth', 'enable');
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((store) => store.close()));
});

afterAll(async () => {
  await Promise.all([plain?.stop(), secure?.stop()]);
  rmSync(directory, { recursive: true, force: true });
});

async function open(datastore: string, env: NodeJS.ProcessEnv = {}): Promise<Datastore> {
  const store = await openDatastore({ datastore, env });
  opened.push(store);
  return store;
}

/** The environment of a client that knows everything it needs. */
function secureEnvironment(): NodeJS.ProcessEnv {
  return {
    ETCD_CA_CERT_FILE: secure.certificates?.caFile,
    ETCD_CERT_FILE: secure.certificates?.clientCertificateFile,
    ETCD_KEY_FILE: secure.certificates?.clientKeyFile,
  };
}

async function failure(attempt: Promise<unknown>): Promise<TortieError> {
  try {
    await attempt;
  } catch (error) {
    return error as TortieError;
  }
  throw new Error('it succeeded');
}

describe('values over the limits of etcd', () => {
  test.each([
    ['of etcd’s request', 1_600_000],
    ['of its gRPC messages', 5_000_000],
  ])('%s', async (_what, bytes) => {
    const store = await open(plain.url.replace('//', '//root:secret@'));
    const error = await failure(store.create(KEY, 'x'.repeat(bytes)));
    expect(error.code).toBe('ERR_STORE_TOO_LARGE');
    expect(error.exitCode).toBe(3);
    expect(error.message).toContain(
      `could not create ${KEY}: the value has ${bytes} bytes, etcd takes at most 1.5 MiB`,
    );
    expect(error.hint).toContain('--max-request-bytes');
    expect(await store.get(KEY)).toBeUndefined();
  });
});

test('a first member whose host is gone, and which so refuses only after 3 s, does not end a request', async () => {
  // Each millisecond counts as ten seconds, so that every refusal is a slow one.
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() * 10_000 };
  const connection = await resolveConnection({
    datastore: plain.url.replace('//', '//root:secret@127.0.0.1:1,'),
    env: {},
  });
  if (connection.type !== 'etcd') throw new Error('expected an etcd connection');
  const store = new EtcdStore(connection, clock);
  opened.push(store);
  expect(await store.get('/calico/none')).toBeUndefined();
  await expect(store.create('/calico/slow', 'x')).resolves.toBeDefined();
});

describe('users', () => {
  test.each([
    ['a wrong password', 'root:wrong', /etcd refuses the user "root" or the password/],
    ['an unknown user', 'nobody:x', /etcd refuses the user "nobody" or the password/],
    ['a user without a role', 'guest:guest', /etcd's user "guest" may not/],
  ])('%s', async (_what, credentials, words) => {
    const store = await open(plain.url.replace('//', `//${credentials}@`));
    const error = await failure(store.get(KEY));
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: false });
    expect(error.message).toMatch(words);
    expect(error.message).not.toContain(credentials.split(':')[1]!.concat('@'));
  });

  test('none where etcd wants one', async () => {
    const store = await open(plain.url);
    const error = await failure(store.list('/calico/'));
    expect(error.message).toContain('could not list /calico/: etcd wants a user name and a password');
    expect(error.hint).toContain('ETCD_USERNAME');
  });

  test('the password is in no URL that is shown', async () => {
    const store = await open(plain.url.replace('//', '//root:secret@'));
    expect(store.url).toBe(plain.url);
  });
});

describe('TLS', () => {
  test('an unknown CA', async () => {
    const other = makeCertificates(directory);
    const store = await open(secure.url, { ...secureEnvironment(), ETCD_CA_CERT_FILE: other.caFile });
    const error = await failure(store.get(KEY));
    expect(error.message).toContain("etcd's certificate is of an authority that is not known here");
    expect(error.hint).toContain('ETCD_CA_CERT_FILE');
    const systems = await open(secure.url, { ...secureEnvironment(), ETCD_CA_CERT_FILE: undefined });
    expect((await failure(systems.get(KEY))).message).toContain('an authority that is not known here');
  });

  test('no client certificate where etcd wants one', async () => {
    const store = await open(secure.url, { ETCD_CA_CERT_FILE: secure.certificates?.caFile });
    const error = await failure(store.get(KEY));
    expect(error.message).toContain('etcd wants a client certificate that it accepts');
    expect(error.hint).toContain('ETCD_CERT_FILE and ETCD_KEY_FILE');
  });

  test('a TLS port spoken to in plain', async () => {
    const store = await open(secure.url.replace('etcds:', 'etcd:'));
    const error = await failure(store.get(KEY));
    expect(error.message).toContain('that port speaks TLS, we spoke in plain');
    expect(error.hint).toContain('etcds://');
  });

  test('a plain port spoken to by TLS', async () => {
    const store = await open(plain.url.replace('etcd:', 'etcds:'), secureEnvironment());
    const error = await failure(store.get(KEY));
    expect(error.message).toContain('etcd does not speak TLS there');
    expect(error.hint).toContain('etcd://');
  });

  test('all as it should be', async () => {
    const store = await open(secure.url, secureEnvironment());
    expect(await store.get(KEY)).toBeUndefined();
    const config = join(directory, 'calicoctl.cfg');
    writeFileSync(
      config,
      JSON.stringify({
        apiVersion: 'projectcalico.org/v3',
        kind: 'CalicoAPIConfig',
        metadata: null,
        spec: {
          datastoreType: 'etcdv3',
          etcdEndpoints: secure.endpoints.map((endpoint) => `https://${endpoint}`).join(','),
          etcdCACert: secure.pem('caFile'),
          etcdCert: secure.pem('clientCertificateFile'),
          etcdKey: secure.pem('clientKeyFile'),
        },
      }),
    );
    const configured = await openDatastore({ config, env: {} });
    opened.push(configured);
    expect((await configured.create(KEY, '1')).value).toBe('1');
  });
});

test('nobody listens', async () => {
  const store = await open('etcd://127.0.0.1:1');
  const error = await failure(store.get(KEY));
  expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true });
  expect(error.message).toContain(
    'the datastore etcd://127.0.0.1:1 could not read /calico/test: no member can be reached',
  );
  expect(error.hint).toContain('Is etcd running');
});
