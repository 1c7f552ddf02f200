/** What people call a kind on the command line, in any case, and how the v1 dialect spells it in files. */
import type { Kind } from './resources.ts';

const ALIASES: Readonly<Record<Kind, readonly string[]>> = {
  IPPool: ['ippool', 'ippools', 'ipp', 'ipps', 'pool', 'pools'],
  Node: ['node', 'nodes', 'no', 'nos'],
  WorkloadEndpoint: ['workloadendpoint', 'workloadendpoints', 'wep', 'weps'],
  BGPConfiguration: ['bgpconfiguration', 'bgpconfigurations', 'bgpconfig', 'bgpconfigs'],
  FelixConfiguration: [
    'felixconfiguration',
    'felixconfigurations',
    'felixconfig',
    'felixconfigs',
    'fconfig',
    'fconfigs',
  ],
  ClusterInformation: ['clusterinformation', 'clusterinformations', 'clusterinfo', 'clusterinfos', 'clinfo'],
  IPReservation: ['ipreservation', 'ipreservations', 'reservation', 'reservations'],
};

const KIND_OF_ALIAS = new Map(
  Object.entries(ALIASES).flatMap(([kind, aliases]) => aliases.map((alias) => [alias, kind as Kind])),
);

export const KINDS = Object.keys(ALIASES) as readonly Kind[];

/** `ippools`, `Node`, `wep` …; undefined for what we do not have. */
export function kindOfAlias(text: string): Kind | undefined {
  return KIND_OF_ALIAS.get(text.toLowerCase());
}
