/** The datastore contract against a real etcd: one member in plain, and TLS with client certificates and users. */
import { afterAll, beforeAll, describe } from 'vitest';
import { openDatastore } from '../../src/store/open.ts';
import { datastoreContract } from '../contract/datastore.contract.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';

describe('one member', () => {
  let cluster: EtcdCluster;
  beforeAll(async () => {
    cluster = await EtcdCluster.start();
  });
  afterAll(() => cluster?.stop());
  datastoreContract('etcd', async () => ({
    open: () => openDatastore({ datastore: cluster.url, env: {} }),
    dispose: async () => {
      await cluster.run('del', '--prefix', '/');
    },
  }));
});

describe('three members, TLS, client certificates, user and password', () => {
  let cluster: EtcdCluster;
  beforeAll(async () => {
    cluster = await EtcdCluster.start({ members: 3, tls: true });
    await cluster.run('user', 'add', 'root:secret');
    await cluster.run('user', 'grant-role', 'root', 'root');
    await cluster.run('auth', 'enable');
  });
  afterAll(() => cluster?.stop());
  datastoreContract('etcds', async () => ({
    open: () =>
      openDatastore({
        env: {
          DATASTORE_TYPE: 'etcdv3',
          ETCD_ENDPOINTS: cluster.endpoints.map((endpoint) => `https://${endpoint}`).join(','),
          ETCD_CA_CERT_FILE: cluster.certificates?.caFile,
          ETCD_CERT_FILE: cluster.certificates?.clientCertificateFile,
          ETCD_KEY_FILE: cluster.certificates?.clientKeyFile,
          ETCD_USERNAME: 'root',
          ETCD_PASSWORD: 'secret',
        },
      }),
    dispose: async () => {
      await cluster.run('--user', 'root:secret', 'del', '--prefix', '/');
    },
  }));
});
