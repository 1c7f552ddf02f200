import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultDirectory, resolveConnection } from '../../../src/store/connection.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n';

let directory: string;
const file = (name: string, text: string) => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-connection-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const etcd = (more: object) => ({ type: 'etcd', tls: false, ...more });

describe('the order', () => {
  test('flag, file, TORTIE_DATASTORE, calicoctl’s environment, the own place', async () => {
    const config = file(
      'order.yaml',
      'apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {etcdEndpoints: "http://c:1"}\n',
    );
    const env = { TORTIE_DATASTORE: 'file:///t', ETCD_ENDPOINTS: 'http://e:1', XDG_STATE_HOME: '/state' };
    expect(await resolveConnection({ datastore: 'etcd://d:1', config, env })).toMatchObject({
      endpoints: ['d:1'],
    });
    expect(await resolveConnection({ config, env })).toMatchObject({ endpoints: ['c:1'] });
    expect(await resolveConnection({ env })).toEqual({ type: 'file', directory: '/t' });
    expect(await resolveConnection({ env: { ETCD_ENDPOINTS: 'http://e:1' } })).toMatchObject({
      endpoints: ['e:1'],
    });
    const own = process.getuid?.() === 0 ? '/var/lib/tortie' : '/state/tortie';
    expect(await resolveConnection({ env: { XDG_STATE_HOME: '/state' } })).toEqual({
      type: 'file',
      directory: own,
    });
    expect(defaultDirectory({ XDG_STATE_HOME: '/state' })).toBe(own);
  });
});

describe('URLs', () => {
  test.each([
    ['file:///srv/store', { type: 'file', directory: '/srv/store' }],
    ['file:///srv/store/', { type: 'file', directory: '/srv/store' }],
    ['file:///srv/with%20space', { type: 'file', directory: '/srv/with space' }],
    ['etcd://10.0.0.1', etcd({ endpoints: ['10.0.0.1:2379'] })],
    ['etcd://a:1,b:2,c', etcd({ endpoints: ['a:1', 'b:2', 'c:2379'] })],
    ['etcd://[fd00::1]:2379', etcd({ endpoints: ['[fd00::1]:2379'] })],
    ['http://a:1,http://b:2/', etcd({ endpoints: ['a:1', 'b:2'] })],
    ['etcds://a', etcd({ endpoints: ['a:2379'], tls: true })],
    ['https://a:443', etcd({ endpoints: ['a:443'], tls: true })],
    ['etcd://u:p%40ss@a,b', etcd({ endpoints: ['a:2379', 'b:2379'], username: 'u', password: 'p@ss' })],
  ])('%s', async (datastore, expected) => {
    expect(await resolveConnection({ datastore, env: {} })).toMatchObject(expected);
  });

  test.each([
    ['/srv/store', 2],
    ['redis://a', 2],
    ['file://host/srv', 2],
    ['file:///srv?x=1', 2],
    ['etcd://', 3],
    ['etcd://a:0', 3],
    ['etcd://a:99999', 3],
    ['etcd://a b', 3],
    ['etcd://a,https://b', 3],
    ['etcd://a/path', 3],
  ])('%s is refused', async (datastore, exitCode) => {
    await expect(resolveConnection({ datastore, env: {} })).rejects.toMatchObject({ exitCode });
  });

  test('a password is in no message', async () => {
    const refused = resolveConnection({ datastore: 'etcd://u:secret@a:0', env: {} });
    await expect(refused).rejects.toMatchObject({ message: expect.not.stringContaining('secret') });
  });
});

describe('calicoctl’s environment', () => {
  test('with and without CALICO_, which goes first', async () => {
    const env = {
      CALICO_DATASTORE_TYPE: 'etcdv3',
      CALICO_ETCD_ENDPOINTS: 'https://a:1,https://b:2',
      ETCD_ENDPOINTS: 'http://not-this:1',
      ETCD_USERNAME: 'u',
      CALICO_ETCD_PASSWORD: 'p',
      ETCD_CA_CERT_FILE: file('ca.pem', `${PEM}ca`),
      ETCD_CERT_FILE: file('cert.pem', `${PEM}cert`),
      CALICO_ETCD_KEY_FILE: file('key.pem', `${PEM}key`),
    };
    expect(await resolveConnection({ env })).toEqual({
      type: 'etcd',
      endpoints: ['a:1', 'b:2'],
      tls: true,
      username: 'u',
      password: 'p',
      ca: `${PEM}ca`,
      certificate: `${PEM}cert`,
      key: `${PEM}key`,
    });
  });

  test('DATASTORE_TYPE alone means etcd on this host', async () => {
    const connection = await resolveConnection({ env: { DATASTORE_TYPE: 'etcdv3' } });
    expect(connection).toMatchObject(etcd({ endpoints: ['127.0.0.1:2379'] }));
  });

  test.each([
    [{ DATASTORE_TYPE: 'kubernetes' }, /DATASTORE_TYPE is "kubernetes"/],
    [{ ETCD_ENDPOINTS: 'http://a', ETCD_USERNAME: 'u' }, /user name and password/],
    [
      { ETCD_ENDPOINTS: 'https://a', ETCD_CA_CERT_FILE: '/nowhere/ca' },
      /cannot read etcd's CA certificate file/,
    ],
    [{ ETCD_ENDPOINTS: 'https://a', ETCD_CERT_FILE: '/dev/null' }, /\/dev\/null is not PEM/],
  ])('%j is refused', async (env, message) => {
    await expect(resolveConnection({ env })).rejects.toMatchObject({
      message: expect.stringMatching(message),
    });
  });

  test('a certificate without its key is refused', async () => {
    const env = { ETCD_ENDPOINTS: 'https://a', ETCD_CERT_FILE: file('alone.pem', PEM) };
    await expect(resolveConnection({ env })).rejects.toThrow(/belong together/);
  });
});

describe('the -c file', () => {
  const read = (text: string) => resolveConnection({ config: file('c.yaml', text), env: {} });

  test('CalicoAPIConfig of v3', async () => {
    const ca = file('file-ca.pem', PEM);
    const connection = await read(
      `apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n` +
        `  etcdEndpoints: https://a:1,https://b:2\n  etcdUsername: u\n  etcdPassword: p\n  etcdCACertFile: ${ca}\n` +
        `  etcdCert: |\n    ${PEM.replaceAll('\n', '\n    ')}\n  etcdKey: '${PEM.replaceAll('\n', '\n\n    ')}'\n  etcdKeyFile: ''\n`,
    );
    expect(connection).toMatchObject({
      endpoints: ['a:1', 'b:2'],
      tls: true,
      username: 'u',
      password: 'p',
      ca: PEM,
    });
    expect(connection).toMatchObject({
      certificate: expect.stringContaining('BEGIN'),
      key: expect.stringContaining('BEGIN'),
    });
  });

  test('calicoApiConfig of v1', async () => {
    const text =
      'apiVersion: v1\nkind: calicoApiConfig\nspec: {datastoreType: etcdv2, etcdEndpoints: "http://a:1"}\n';
    expect(await read(text)).toMatchObject(etcd({ endpoints: ['a:1'] }));
  });

  test('nothing in it means etcd on this host', async () => {
    const text = 'apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\n';
    expect(await read(text)).toMatchObject(etcd({ endpoints: ['127.0.0.1:2379'] }));
  });

  test.each([
    ['', /is no CalicoAPIConfig/],
    ['apiVersion: projectcalico.org/v3\nkind: IPPool\n', /is no CalicoAPIConfig/],
    [
      'apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: kubernetes, etcdEndpoint: x}\n',
      /spec\.datastoreType: .*; spec: .*etcdEndpoint/,
    ],
    ['{', /cannot read the configuration/],
  ])('%j is refused', async (text, message) => {
    await expect(read(text)).rejects.toMatchObject({ exitCode: 3, message: expect.stringMatching(message) });
  });

  test('one that is not there is refused', async () => {
    const missing = resolveConnection({ config: '/nowhere/calicoctl.cfg', env: {} });
    await expect(missing).rejects.toMatchObject({
      exitCode: 3,
      message: expect.stringContaining('/nowhere/'),
    });
  });
});
