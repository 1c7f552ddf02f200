/**
 * The v1 dialect translated to and from v3. Only the v3 form is ever stored; stored objects hold more than v1 can
 * say, which `toV1` leaves out.
 */
import { networkText, parseAddressOrCidr } from './cidr.ts';
import {
  API_VERSION,
  type IPPool,
  type Kind,
  type Node,
  type Resource,
  type WorkloadEndpoint,
} from './resources.ts';
import type { V1IpPool, V1Kind, V1Node, V1Resource, V1WorkloadEndpoint } from './v1-schemas.ts';
import { workloadEndpointName } from './workload-endpoint-name.ts';

const V1 = 'v1';

export const KIND_OF_V1: Readonly<Record<V1Kind, Kind>> = {
  ipPool: 'IPPool',
  node: 'Node',
  workloadEndpoint: 'WorkloadEndpoint',
};

const V1_OF_KIND = new Map(Object.entries(KIND_OF_V1).map(([v1, kind]) => [kind, v1 as V1Kind]));

export function isV1Kind(text: string): text is V1Kind {
  return Object.hasOwn(KIND_OF_V1, text);
}

export function v1KindOf(kind: Kind): V1Kind | undefined {
  return V1_OF_KIND.get(kind);
}

/** v1 to v3, as `calicoctl convert` translates; the v3 schema still has to judge the result. */
export function fromV1(v1: V1Resource): Record<string, unknown> {
  switch (v1.kind) {
    case 'ipPool':
      return poolFromV1(v1);
    case 'node':
      return nodeFromV1(v1);
    case 'workloadEndpoint':
      return workloadEndpointFromV1(v1);
  }
}

function v3(kind: Kind, metadata: object, spec: object): Record<string, unknown> {
  return { kind, apiVersion: API_VERSION, metadata, spec };
}

/** `192.168.0.0/16` -> `192-168-0-0-16`. */
export function poolNameOfCidr(cidr: string): string {
  return cidr.toLowerCase().replaceAll(/[.:/]/g, '-');
}

function poolFromV1({ metadata, spec }: V1IpPool): Record<string, unknown> {
  const parsed = parseAddressOrCidr(metadata.cidr);
  const cidr = parsed ? networkText(parsed) : metadata.cidr;
  const { enabled = false, mode } = spec.ipip ?? {};
  const ipipMode = enabled ? (mode === 'cross-subnet' ? 'CrossSubnet' : 'Always') : 'Never';
  return v3(
    'IPPool',
    { name: poolNameOfCidr(cidr) },
    {
      cidr,
      ipipMode,
      natOutgoing: spec['nat-outgoing'],
      disabled: spec.disabled,
    },
  );
}

/** v1 names may hold what a v3 name may not. */
function convertedName(name: string): string {
  return name
    .toLowerCase()
    .replaceAll('/', '.')
    .replaceAll(/[^-a-z0-9.]/g, '-')
    .replaceAll(/[-.]*\.[-.]*/g, '.')
    .replaceAll(/^[-.]+|[-.]+$/g, '');
}

function nodeFromV1({ metadata, spec }: V1Node): Record<string, unknown> {
  const { bgp } = spec;
  const withLength = (address: string | undefined, bits: number) =>
    address && !address.includes('/') ? `${address}/${bits}` : address;
  return v3(
    'Node',
    { name: convertedName(metadata.name), labels: metadata.labels },
    {
      ...(bgp && {
        bgp: {
          ...bgp,
          ipv4Address: withLength(bgp.ipv4Address, 32),
          ipv6Address: withLength(bgp.ipv6Address, 128),
        },
      }),
      orchRefs: spec.orchRefs,
    },
  );
}

function workloadEndpointFromV1({ metadata, spec }: V1WorkloadEndpoint): Record<string, unknown> {
  const { orchestrator, node } = metadata;
  const common = { orchestrator, node: convertedName(node), endpoint: metadata.name, ...spec };
  // Under Kubernetes a v1 workload is `namespace.pod`.
  const dot = orchestrator === 'k8s' ? metadata.workload.indexOf('.') : -1;
  const namespace = dot > 0 ? metadata.workload.slice(0, dot) : 'default';
  const workload = metadata.workload.slice(dot + 1);
  const identity =
    orchestrator === 'k8s'
      ? { pod: workload }
      : orchestrator === 'cni'
        ? { containerID: workload }
        : { workload };
  const full = { ...common, ...identity };
  return v3(
    'WorkloadEndpoint',
    { name: workloadEndpointName(full), namespace, labels: metadata.labels },
    full,
  );
}

/** v3 to v1, for people who think in v1; undefined for kinds that v1 does not have. */
export function toV1(resource: Resource): Record<string, unknown> | undefined {
  switch (resource.kind) {
    case 'IPPool':
      return poolToV1(resource as IPPool);
    case 'Node':
      return nodeToV1(resource as Node);
    case 'WorkloadEndpoint':
      return workloadEndpointToV1(resource as WorkloadEndpoint);
    default:
      return undefined;
  }
}

function poolToV1({ spec }: IPPool): Record<string, unknown> {
  const mode = spec.ipipMode === 'CrossSubnet' ? 'cross-subnet' : 'always';
  return {
    kind: 'ipPool',
    apiVersion: V1,
    metadata: { cidr: spec.cidr },
    spec: {
      ...(spec.ipipMode === 'Never' ? {} : { ipip: { enabled: true, mode } }),
      ...(spec.natOutgoing ? { 'nat-outgoing': true } : {}),
      ...(spec.disabled ? { disabled: true } : {}),
    },
  };
}

function nodeToV1({ metadata, spec }: Node): Record<string, unknown> {
  const { asNumber, ipv4Address, ipv6Address } = spec.bgp ?? {};
  return {
    kind: 'node',
    apiVersion: V1,
    metadata: { name: metadata.name, ...(metadata.labels ? { labels: metadata.labels } : {}) },
    spec: {
      ...(ipv4Address || ipv6Address
        ? {
            bgp: {
              ...(asNumber === undefined ? {} : { asNumber }),
              ...(ipv4Address ? { ipv4Address } : {}),
              ...(ipv6Address ? { ipv6Address } : {}),
            },
          }
        : {}),
      ...(spec.orchRefs?.length ? { orchRefs: spec.orchRefs } : {}),
    },
  };
}

function workloadEndpointToV1({ metadata, spec }: WorkloadEndpoint): Record<string, unknown> {
  const { orchestrator, node, endpoint } = spec;
  const workload =
    orchestrator === 'k8s'
      ? `${metadata.namespace ?? 'default'}.${spec.pod ?? ''}`
      : ((orchestrator === 'cni' ? spec.containerID : spec.workload) ?? '');
  return {
    kind: 'workloadEndpoint',
    apiVersion: V1,
    metadata: {
      name: endpoint,
      workload,
      orchestrator,
      node,
      ...(metadata.labels ? { labels: metadata.labels } : {}),
    },
    spec: {
      interfaceName: spec.interfaceName,
      ...(spec.mac ? { mac: spec.mac } : {}),
      ...(spec.ipNetworks?.length ? { ipNetworks: spec.ipNetworks } : {}),
      ...(spec.profiles?.length ? { profiles: spec.profiles } : {}),
    },
  };
}
