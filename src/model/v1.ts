/**
 * The v1 dialect (Calico 2.x) of ipPool, node and workloadEndpoint: one schema each, and its translation to and
 * from v3. Only the v3 form is ever stored. Stored objects hold more than v1 can say; `toV1` leaves that out.
 */
import * as z from 'zod';
import { asNumberField } from './as-number.ts';
import { hasHostBits, networkText, parseAddressOrCidr } from './cidr.ts';
import { across, type ObjectMaker, objectMaker, optionalText, optionalTexts } from './fields.ts';
import {
  API_VERSION,
  type IPPool,
  type Kind,
  type Node,
  type Resource,
  type WorkloadEndpoint,
} from './resources.ts';
import { workloadEndpointName } from './workload-endpoint.ts';

export const V1 = 'v1';
export type V1Kind = 'ipPool' | 'node' | 'workloadEndpoint';

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

const labels = z.record(z.string(), z.string()).optional();

const flag = z.boolean().default(false);

function ipPoolSchema(object: ObjectMaker) {
  const shape = object({
    kind: z.literal('ipPool'),
    apiVersion: z.literal(V1),
    metadata: object({ cidr: z.string().default('') }).prefault({}),
    spec: object({
      ipip: object({ enabled: flag, mode: z.string().optional() }).optional(),
      'nat-outgoing': flag,
      disabled: flag,
    }).prefault({}),
  });
  return across(shape, ({ metadata, spec }, refuse) => {
    const { cidr } = (metadata ?? {}) as { cidr?: unknown };
    const parsed = typeof cidr === 'string' ? parseAddressOrCidr(cidr) : undefined;
    if (typeof cidr === 'string' && !cidr)
      refuse(['metadata', 'cidr'], {
        field: 'metadata.cidr',
        reason: "insufficient identifiers, missing 'cidr'",
      });
    else if (typeof cidr === 'string' && !parsed)
      refuse(['metadata', 'cidr'], { field: 'CIDR', value: cidr, reason: `invalid CIDR address: ${cidr}` });
    else if (parsed && hasHostBits(parsed))
      refuse(['metadata', 'cidr'], {
        field: 'CIDR',
        value: networkText(parsed),
        reason: 'IP pool CIDR is not strictly masked',
      });
    const ipip = ((spec ?? {}) as { ipip?: unknown }).ipip as
      | { enabled?: unknown; mode?: unknown }
      | undefined;
    if (typeof ipip?.mode === 'string' && !['', 'always', 'cross-subnet'].includes(ipip.mode))
      refuse(['spec', 'ipip', 'mode'], {
        field: 'Mode',
        value: ipip.mode,
        reason: 'expected always or cross-subnet',
      });
    if (parsed?.family === 6 && ipip?.enabled === true)
      refuse(['spec', 'ipip', 'enabled'], {
        field: 'IPIP.Enabled',
        value: 'true',
        reason: 'IPIP is not supported on an IPv6 IP pool',
      });
  });
}

const V1_NODE_NAME = /^[a-zA-Z0-9_.-]{1,128}$/;

function nodeSchema(object: ObjectMaker) {
  const shape = object({
    kind: z.literal('node'),
    apiVersion: z.literal(V1),
    metadata: object({ name: z.string().default(''), labels }).prefault({}),
    spec: object({
      bgp: object({
        asNumber: asNumberField.optional(),
        ipv4Address: optionalText,
        ipv6Address: optionalText,
      }).optional(),
      orchRefs: z.array(object({ nodeName: optionalText, orchestrator: z.string() })).optional(),
    }).prefault({}),
  });
  return across(shape, ({ metadata, spec }, refuse) => {
    const { name } = (metadata ?? {}) as { name?: unknown };
    if (typeof name === 'string' && !V1_NODE_NAME.test(name))
      refuse(['metadata', 'name'], {
        field: 'metadata.name',
        value: name,
        reason: name ? `expected ${V1_NODE_NAME.source}` : "insufficient identifiers, missing 'name'",
      });
    const bgp = ((spec ?? {}) as { bgp?: Record<string, unknown> }).bgp;
    if (typeof bgp !== 'object' || bgp === null) return;
    if (!bgp.ipv4Address && !bgp.ipv6Address)
      refuse(['spec', 'bgp'], { field: 'BGP.IPv4Address', reason: 'no BGP IP address and subnet specified' });
    for (const [field, family] of [
      ['ipv4Address', 4],
      ['ipv6Address', 6],
    ] as const) {
      const value = bgp[field];
      if (typeof value === 'string' && value && parseAddressOrCidr(value)?.family !== family)
        refuse(['spec', 'bgp', field], {
          field: `BGP.IPv${family}Address`,
          value,
          reason: `invalid IPv${family} address and subnet specified`,
        });
    }
  });
}

function workloadEndpointSchema(object: ObjectMaker) {
  const required = z.string().min(1, 'must be given');
  return object({
    kind: z.literal('workloadEndpoint'),
    apiVersion: z.literal(V1),
    metadata: object({ name: required, workload: required, orchestrator: required, node: required, labels }),
    spec: object({
      interfaceName: z.string().default(''),
      mac: optionalText,
      ipNetworks: optionalTexts,
      ipNATs: z.array(object({ internalIP: z.string(), externalIP: z.string() })).optional(),
      ipv4Gateway: optionalText,
      ipv6Gateway: optionalText,
      profiles: optionalTexts,
    }).prefault({}),
  });
}

const makers = { ipPool: ipPoolSchema, node: nodeSchema, workloadEndpoint: workloadEndpointSchema };

/** The strict schema: v1 comes from manifests only. */
export function v1Schema(kind: V1Kind): z.ZodType {
  return makers[kind](objectMaker('strict'));
}

type V1Of<K extends V1Kind> = z.output<ReturnType<(typeof makers)[K]>>;
export type V1Resource = V1Of<'ipPool'> | V1Of<'node'> | V1Of<'workloadEndpoint'>;

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

function poolFromV1({ metadata, spec }: V1Of<'ipPool'>): Record<string, unknown> {
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

function nodeFromV1({ metadata, spec }: V1Of<'node'>): Record<string, unknown> {
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

function workloadEndpointFromV1({ metadata, spec }: V1Of<'workloadEndpoint'>): Record<string, unknown> {
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
