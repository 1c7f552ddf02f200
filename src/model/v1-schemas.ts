/** The v1 dialect (Calico 2.x) of ipPool, node and workloadEndpoint as manifests hold it: one strict schema each. */
import * as z from 'zod/v3';
import { asNumberField } from './as-number.ts';
import { hasHostBits, networkText, parseAddressOrCidr } from './cidr.ts';
import { type Check, objectMaker, optionalText, optionalTexts } from './fields.ts';

const V1 = 'v1';
export type V1Kind = 'ipPool' | 'node' | 'workloadEndpoint';

/** v1 comes from manifests only. */
const object = objectMaker('strict');
const labels = z.record(z.string(), z.string()).optional();
const flag = z.boolean().default(false);
const requiredText = z.string().min(1, 'must be given');

const ipPool = object({
  kind: z.literal('ipPool'),
  apiVersion: z.literal(V1),
  metadata: object({ cidr: z.string().default('') }).default({}),
  spec: object({
    ipip: object({ enabled: flag, mode: z.string().optional() }).optional(),
    'nat-outgoing': flag,
    disabled: flag,
  }).default({}),
});

/** The field at a path of something that may have any shape. */
function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>)[key] : undefined,
    value,
  );
}

const checkIpPool: Check = (pool, refuse) => {
  const cidr = at(pool, 'metadata', 'cidr') ?? '';
  const mode = at(pool, 'spec', 'ipip', 'mode') ?? '';
  const refuseCidr = (value: string, reason: string) =>
    refuse(['metadata', 'cidr'], { field: 'CIDR', reason, ...(value ? { value } : {}) });
  if (typeof mode === 'string' && !['', 'always', 'cross-subnet'].includes(mode))
    refuse(['spec', 'ipip', 'mode'], {
      field: 'Mode',
      value: mode,
      reason: 'expected always or cross-subnet',
    });
  if (typeof cidr !== 'string') return;
  const parsed = parseAddressOrCidr(cidr);
  if (!cidr) refuseCidr('', "insufficient identifiers, missing 'cidr'");
  else if (!parsed) refuseCidr(cidr, `invalid CIDR address: ${cidr}`);
  else if (hasHostBits(parsed)) refuseCidr(networkText(parsed), 'IP pool CIDR is not strictly masked');
  if (parsed?.family === 6 && at(pool, 'spec', 'ipip', 'enabled') === true)
    refuse(['spec', 'ipip', 'enabled'], {
      field: 'IPIP.Enabled',
      value: 'true',
      reason: 'IPIP is not supported on an IPv6 IP pool',
    });
};

const node = object({
  kind: z.literal('node'),
  apiVersion: z.literal(V1),
  metadata: object({ name: z.string().default(''), labels }).default({}),
  spec: object({
    bgp: object({
      asNumber: asNumberField.optional(),
      ipv4Address: optionalText,
      ipv6Address: optionalText,
    }).optional(),
    orchRefs: z.array(object({ nodeName: optionalText, orchestrator: z.string() })).optional(),
  }).default({}),
});

const NODE_NAME = /^[a-zA-Z0-9_.-]{1,128}$/;

const checkNode: Check = (given, refuse) => {
  const name = at(given, 'metadata', 'name') ?? '';
  if (typeof name === 'string' && !NODE_NAME.test(name))
    refuse(['metadata', 'name'], {
      field: 'metadata.name',
      ...(name ? { value: name } : {}),
      reason: name ? `expected ${NODE_NAME.source}` : "insufficient identifiers, missing 'name'",
    });
  const bgp = at(given, 'spec', 'bgp');
  if (bgp === undefined) return;
  if (!at(bgp, 'ipv4Address') && !at(bgp, 'ipv6Address'))
    refuse(['spec', 'bgp'], { field: 'BGP.IPv4Address', reason: 'no BGP IP address and subnet specified' });
  for (const family of [4, 6] as const) {
    const field = `ipv${family}Address`;
    const value = at(bgp, field);
    if (typeof value !== 'string' || !value || parseAddressOrCidr(value)?.family === family) continue;
    const reason = `invalid IPv${family} address and subnet specified`;
    refuse(['spec', 'bgp', field], { field: `BGP.IPv${family}Address`, value, reason });
  }
};

const workloadEndpoint = object({
  kind: z.literal('workloadEndpoint'),
  apiVersion: z.literal(V1),
  metadata: object({
    name: requiredText,
    workload: requiredText,
    orchestrator: requiredText,
    node: requiredText,
    labels,
  }),
  spec: object({
    interfaceName: z.string().default(''),
    mac: optionalText,
    ipNetworks: optionalTexts,
    ipNATs: z.array(object({ internalIP: z.string(), externalIP: z.string() })).optional(),
    ipv4Gateway: optionalText,
    ipv6Gateway: optionalText,
    profiles: optionalTexts,
  }).default({}),
});

export type V1IpPool = z.output<typeof ipPool>;
export type V1Node = z.output<typeof node>;
export type V1WorkloadEndpoint = z.output<typeof workloadEndpoint>;
export type V1Resource = V1IpPool | V1Node | V1WorkloadEndpoint;

/** `check` says what the fields alone cannot; the v3 schema judges the translation again. */
export const V1_DESCRIPTIONS: Readonly<
  Record<V1Kind, { readonly schema: z.ZodType<V1Resource, z.ZodTypeDef, unknown>; readonly check?: Check }>
> = {
  ipPool: { schema: ipPool, check: checkIpPool },
  node: { schema: node, check: checkNode },
  workloadEndpoint: { schema: workloadEndpoint },
};
