/** The upkeep of IPAM on a real etcd. */
import { afterAll, beforeAll } from 'vitest';
import { ipamUpkeep } from '../contract/ipam-upkeep.contract.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';

let cluster: EtcdCluster;

beforeAll(async () => {
  cluster = await EtcdCluster.start();
});

afterAll(() => cluster?.stop());

ipamUpkeep('etcd', {
  url: () => cluster.url,
  empty: async () => {
    await cluster.run('del', '--prefix', '/');
  },
});
