/** Every recorded session of the real client and of Calico's IPAM, against ours on a real etcd of three members. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openDatastore } from '../../src/store/open.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';
import { etcdStage } from '../helpers/etcd-stage.ts';
import { playGiven } from '../helpers/given-steps.ts';
import { inProcessClient, playRecording, readRecording, SESSIONS } from '../helpers/recordings.ts';

let cluster: EtcdCluster;

beforeAll(async () => {
  cluster = await EtcdCluster.start({ members: 3 });
});

afterAll(() => cluster?.stop());

afterEach(async () => {
  await cluster.run('del', '--prefix', '/');
});

test.each(SESSIONS)('%s', async (session) => {
  const steps = readRecording(`${session}.json`);
  expect(steps.length).toBeGreaterThan(5);
  expect(await playRecording(steps, inProcessClient, etcdStage(cluster))).toEqual([]);
});

test.each(['ipam.json', 'ipam-borrow.json'])("what Calico's IPAM wrote in %s, ours writes", async (name) => {
  const store = await openDatastore({ datastore: cluster.url, env: {} });
  const empty = async () => {
    await cluster.run('del', '--prefix', '/');
    return store;
  };
  try {
    expect(await playGiven(name, empty)).toBeGreaterThanOrEqual(7);
  } finally {
    await store.close();
  }
});
