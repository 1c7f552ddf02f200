/**
 * Calico's v3 resources as their JSON has them: field names, optional fields and values are the wire format
 * of the datastore. Read-side types: what a reader may rely on after decoding (`model/stored.ts` fills in the
 * defaults that Calico fills in on reading). Fields that we do not know are kept by whoever rewrites a value.
 */

export const API_VERSION = 'projectcalico.org/v3';

export interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Resource<K extends Kind = Kind, Spec = unknown> {
  readonly kind: K;
  readonly apiVersion: typeof API_VERSION;
  readonly metadata: Metadata;
  readonly spec: Spec;
  readonly status?: unknown;
}

export type Kind =
  | 'IPPool'
  | 'Node'
  | 'WorkloadEndpoint'
  | 'BGPConfiguration'
  | 'FelixConfiguration'
  | 'ClusterInformation'
  | 'IPReservation';

export type EncapsulationMode = 'Always' | 'CrossSubnet' | 'Never';

export interface IPPoolSpec {
  readonly cidr: string;
  readonly ipipMode: EncapsulationMode;
  readonly vxlanMode: EncapsulationMode;
  readonly natOutgoing: boolean;
  readonly disabled: boolean;
  readonly disableBGPExport: boolean;
  readonly blockSize: number;
  readonly nodeSelector: string;
  readonly allowedUses: readonly ('Workload' | 'Tunnel' | 'LoadBalancer')[];
  readonly assignmentMode: 'Automatic' | 'Manual';
}

export interface NodeSpec {
  readonly bgp?: {
    readonly asNumber?: number;
    /** `10.0.2.15/24`: host bits kept; a bare address means /32. */
    readonly ipv4Address?: string;
    readonly ipv6Address?: string;
    readonly ipv4IPIPTunnelAddr?: string;
    readonly routeReflectorClusterID?: string;
  };
  readonly addresses?: readonly { readonly address: string; readonly type?: string }[];
  readonly orchRefs?: readonly { readonly nodeName?: string; readonly orchestrator: string }[];
}

export interface WorkloadEndpointSpec {
  readonly orchestrator: string;
  readonly workload?: string;
  readonly node: string;
  readonly containerID?: string;
  readonly pod?: string;
  readonly endpoint: string;
  readonly ipNetworks?: readonly string[];
  readonly profiles?: readonly string[];
  readonly interfaceName: string;
  readonly mac?: string;
}

export interface BGPConfigurationSpec {
  readonly asNumber?: number;
  readonly nodeToNodeMeshEnabled?: boolean;
  readonly logSeverityScreen?: string;
}

/** The fields that touch IP-in-IP; the schema knows the others by name. */
export interface FelixConfigurationSpec {
  readonly ipipEnabled?: boolean;
  readonly ipipMTU?: number;
  readonly mtuIfacePattern?: string;
  readonly externalNodesList?: readonly string[];
  readonly natPortRange?: string | number;
  readonly natOutgoingAddress?: string;
  readonly allowIPIPPacketsFromWorkloads?: boolean;
}

export interface ClusterInformationSpec {
  readonly clusterGUID?: string;
  readonly calicoVersion?: string;
  readonly datastoreReady?: boolean;
}

export interface IPReservationSpec {
  readonly reservedCIDRs?: readonly string[];
}

export type IPPool = Resource<'IPPool', IPPoolSpec>;
export type Node = Resource<'Node', NodeSpec>;
export type WorkloadEndpoint = Resource<'WorkloadEndpoint', WorkloadEndpointSpec>;
export type BGPConfiguration = Resource<'BGPConfiguration', BGPConfigurationSpec>;
export type FelixConfiguration = Resource<'FelixConfiguration', FelixConfigurationSpec>;
export type ClusterInformation = Resource<'ClusterInformation', ClusterInformationSpec>;
export type IPReservation = Resource<'IPReservation', IPReservationSpec>;

interface SpecOf {
  IPPool: IPPoolSpec;
  Node: NodeSpec;
  WorkloadEndpoint: WorkloadEndpointSpec;
  BGPConfiguration: BGPConfigurationSpec;
  FelixConfiguration: FelixConfigurationSpec;
  ClusterInformation: ClusterInformationSpec;
  IPReservation: IPReservationSpec;
}

/** `ResourceOf<'IPPool'>` is IPPool. */
export type ResourceOf<K extends Kind> = Resource<K, SpecOf[K]>;

/** An IPAM block as stored (not a resource: raw JSON under /calico/ipam/v2). Sequence numbers are uint64. */
export interface IpamBlock {
  readonly cidr: string;
  /** `host:node1`; null where the block is nobody's. */
  readonly affinity: string | null;
  /** Per ordinal: index into `attributes`, or null where free. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals in the order in which they are handed out. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly IpamAttributes[];
  readonly sequenceNumber: bigint;
  readonly sequenceNumberForAllocation: Readonly<Record<string, bigint>>;
  readonly deleted: boolean;
}

export interface IpamAttributes {
  readonly handle_id?: string | null;
  /** Keys `node`, `type`, `pod`, `namespace`, `timestamp`; `node` is what makes a borrowed address a /32 route. */
  readonly secondary?: Readonly<Record<string, string>> | null;
}

export type AffinityState = 'pending' | 'confirmed' | 'pendingDeletion';

export interface IpamAffinity {
  readonly state: AffinityState;
  readonly deleted: boolean;
}

export interface IpamHandle {
  /** Block CIDR -> number of addresses. */
  readonly block: Readonly<Record<string, number>>;
  readonly deleted: boolean;
}

export interface IpamConfig {
  readonly strict_affinity: boolean;
  readonly auto_allocate_blocks: boolean;
  readonly maxBlocksPerHost: number;
}
