/** Recorded sessions on a real etcd: values laid down and read by etcdctl, so that no code of ours is in between. */
import type { EtcdCluster } from './etcd-cluster.ts';
import type { Stage } from './recordings.ts';

interface ListedByEtcdctl {
  readonly kvs?: readonly { readonly key: string; readonly value?: string }[];
}

export function etcdStage(cluster: EtcdCluster): Stage {
  return {
    url: cluster.url,
    async layDown({ put = {}, del = [] }) {
      for (const [key, value] of Object.entries(put)) await cluster.run('put', '--', key, value);
      for (const key of del) await cluster.run('del', key);
    },
    async values() {
      const listed = JSON.parse(
        await cluster.run('get', '--prefix', '/calico/', '-w', 'json'),
      ) as ListedByEtcdctl;
      return new Map((listed.kvs ?? []).map(({ key, value }) => [text(key), text(value ?? '')]));
    },
  };
}

function text(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}
