/** Where a lab keeps its resources, and what a shell on this machine needs to reach them. */
import { pathToFileURL } from 'node:url';
import { parsePrefix } from '../ip/prefix.ts';
import { etcdEndpoints } from './etcd.ts';
import type { LabPaths } from './names.ts';
import type { LabRecord } from './record.ts';
import { relayedEndpoints } from './relay.ts';

/** The datastore's URL, as `--datastore` and TORTIE_DATASTORE take it, for nodes and for commands of the lab. */
export function labDatastore(paths: LabPaths, { management }: Pick<LabRecord, 'management'>): string {
  const subnet = management && parsePrefix(management);
  return subnet ? `etcd://${etcdEndpoints(subnet).join(',')}` : pathToFileURL(paths.datastore).href;
}

/** What `lab env` prints; with etcd also the names that calicoctl and etcdctl read. */
export function labEnvironment(
  lab: string,
  paths: LabPaths,
  record: Pick<LabRecord, 'management'>,
): readonly (readonly [name: string, value: string])[] {
  const subnet = record.management && parsePrefix(record.management);
  const hosts = subnet ? (relayedEndpoints(paths) ?? etcdEndpoints(subnet)) : undefined;
  const endpoints = hosts?.map((host) => `http://${host}`);
  return [
    ['TORTIE_LAB', lab],
    ['TORTIE_DATASTORE', hosts ? `etcd://${hosts.join(',')}` : labDatastore(paths, record)],
    ...(endpoints
      ? ([
          ['DATASTORE_TYPE', 'etcdv3'],
          ['ETCD_ENDPOINTS', endpoints.join(',')],
          ['ETCDCTL_ENDPOINTS', endpoints.join(',')],
        ] as const)
      : []),
  ];
}
