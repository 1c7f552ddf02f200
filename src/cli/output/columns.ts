/** The columns of `get`'s tables: which there are for each kind, and which are shown unasked and with `-o wide`. */
import { UsageError } from '../../base/errors.ts';
import type {
  BGPConfiguration,
  ClusterInformation,
  IPPool,
  IPReservation,
  Kind,
  Node,
  Resource,
  WorkloadEndpoint,
} from '../../model/resources.ts';

export interface ColumnContext {
  /** The AS number of nodes that have none of their own; undefined where it could not be read. */
  readonly defaultAsNumber: number | undefined;
}

type Cell = (resource: Resource, context: ColumnContext) => string;

interface Columns {
  readonly cells: Readonly<Record<string, Cell>>;
  readonly narrow: readonly string[];
  readonly wide: readonly string[];
}

export type Dialect = 'v1' | 'v3';

const text = (value: unknown): string => (value === undefined ? '' : String(value));
const list = (values: readonly string[] | undefined): string => (values ?? []).join(',');
const name: Cell = ({ metadata }) => metadata.name;

/** Columns of one kind; the cells get the type that the kind has. */
function columns<R extends Resource>(
  cells: Readonly<Record<string, (resource: R, context: ColumnContext) => string>>,
  narrow: string,
  wide: string,
): Columns {
  return {
    cells: { NAME: name, ...(cells as unknown as Readonly<Record<string, Cell>>) },
    narrow: narrow.split(' '),
    wide: wide.split(' '),
  };
}

/** `(64512)`: inherited from the global default; blank for a node without BGP. */
function nodeAsNumber(node: Node, { defaultAsNumber }: ColumnContext): string {
  if (!node.spec.bgp) return '';
  return node.spec.bgp.asNumber === undefined
    ? `(${defaultAsNumber ?? 'unknown'})`
    : String(node.spec.bgp.asNumber);
}

const node = columns<Node>(
  {
    ASN: nodeAsNumber,
    IPV4: ({ spec }) => text(spec.bgp?.ipv4Address),
    IPV6: ({ spec }) => text(spec.bgp?.ipv6Address),
  },
  'NAME',
  'NAME ASN IPV4 IPV6',
);

const workloadEndpointCells: Readonly<Record<string, (resource: WorkloadEndpoint) => string>> = {
  NAMESPACE: ({ metadata }) => text(metadata.namespace),
  WORKLOAD: ({ spec }) => text(spec.workload || spec.pod),
  NODE: ({ spec }) => spec.node,
  ORCHESTRATOR: ({ spec }) => spec.orchestrator,
  NETWORKS: ({ spec }) => list(spec.ipNetworks),
  INTERFACE: ({ spec }) => spec.interfaceName,
  PROFILES: ({ spec }) => list(spec.profiles),
  NATS: ({ spec }) =>
    list((spec as { ipNATs?: readonly { externalIP: string }[] }).ipNATs?.map((nat) => nat.externalIP)),
};

const V3: Readonly<Record<Kind, Columns>> = {
  IPPool: columns<IPPool>(
    {
      CIDR: ({ spec }) => spec.cidr,
      NAT: ({ spec }) => text(spec.natOutgoing),
      IPIPMODE: ({ spec }) => spec.ipipMode,
      VXLANMODE: ({ spec }) => spec.vxlanMode,
      DISABLED: ({ spec }) => text(spec.disabled),
      DISABLEBGPEXPORT: ({ spec }) => text(spec.disableBGPExport),
      SELECTOR: ({ spec }) => spec.nodeSelector,
      ASSIGNMENTMODE: ({ spec }) => spec.assignmentMode,
    },
    'NAME CIDR SELECTOR',
    'NAME CIDR NAT IPIPMODE VXLANMODE DISABLED DISABLEBGPEXPORT SELECTOR ASSIGNMENTMODE',
  ),
  Node: node,
  WorkloadEndpoint: columns<WorkloadEndpoint>(
    workloadEndpointCells,
    'WORKLOAD NODE NETWORKS INTERFACE',
    'NAME WORKLOAD NODE NETWORKS INTERFACE PROFILES NATS',
  ),
  BGPConfiguration: columns<BGPConfiguration>(
    {
      LOGSEVERITY: ({ spec }) => text(spec.logSeverityScreen),
      MESHENABLED: ({ spec }) => text(spec.nodeToNodeMeshEnabled ?? '-'),
      ASNUMBER: ({ spec }) => text(spec.asNumber ?? '-'),
    },
    'NAME LOGSEVERITY MESHENABLED ASNUMBER',
    'NAME LOGSEVERITY MESHENABLED ASNUMBER',
  ),
  FelixConfiguration: columns({}, 'NAME', 'NAME'),
  ClusterInformation: columns<ClusterInformation>(
    {
      CLUSTERGUID: ({ spec }) => text(spec.clusterGUID),
      CLUSTERTYPE: ({ spec }) => text((spec as { clusterType?: string }).clusterType),
      CALICOVERSION: ({ spec }) => text(spec.calicoVersion),
      DATASTOREREADY: ({ spec }) => text(spec.datastoreReady),
    },
    'NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY',
    'NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY',
  ),
  IPReservation: columns<IPReservation>(
    { CIDRS: ({ spec }) => list(spec.reservedCIDRs) },
    'NAME',
    'NAME CIDRS',
  ),
};

const V1_COLUMNS: Partial<Readonly<Record<Kind, Columns>>> = {
  IPPool: columns<IPPool>(
    {
      CIDR: ({ spec }) => spec.cidr,
      NAT: ({ spec }) => text(spec.natOutgoing),
      IPIP: ({ spec }) => text(spec.ipipMode !== 'Never'),
    },
    'CIDR',
    'CIDR NAT IPIP',
  ),
  Node: node,
  WorkloadEndpoint: columns<WorkloadEndpoint>(
    { ...workloadEndpointCells, NAME: ({ spec }) => spec.endpoint },
    'NODE ORCHESTRATOR WORKLOAD NAME',
    'NODE ORCHESTRATOR WORKLOAD NAME NETWORKS NATS INTERFACE PROFILES',
  ),
};

function columnsOf(kind: Kind, dialect: Dialect): Columns {
  return (dialect === 'v1' ? V1_COLUMNS[kind] : undefined) ?? V3[kind];
}

export interface TableShape {
  readonly headings: readonly string[];
  readonly row: (resource: Resource, context: ColumnContext) => string[];
}

/** `shown` is `narrow`, `wide`, or the headings that the user asked for. @throws UsageError for an unknown heading */
export function tableShape(
  kind: Kind,
  dialect: Dialect,
  shown: 'narrow' | 'wide' | readonly string[],
  withNamespace: boolean,
): TableShape {
  const { cells, ...standard } = columnsOf(kind, dialect);
  const chosen = typeof shown === 'string' ? standard[shown] : shown;
  const namespaced = withNamespace && kind === 'WorkloadEndpoint' && dialect === 'v3' && chosen !== shown;
  const headings = namespaced ? ['NAMESPACE', ...chosen] : chosen;
  for (const heading of headings)
    if (!Object.hasOwn(cells, heading))
      throw new UsageError(
        `unknown heading ${heading}, valid values are: ${Object.keys(cells).sort().join(', ')}`,
      );
  return {
    headings,
    row: (resource, context) => headings.map((heading) => cells[heading]!(resource, context)),
  };
}
