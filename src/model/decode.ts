/**
 * Values to resources. Theory of operation: one description per kind (`ip-pool.ts`, `node.ts`, …) becomes two zod
 * schemas, a strict one for manifests and a tolerant one for stored values. `decodeResource` runs one of them, and the
 * description's check across fields, and turns what they say into problems: unknown fields and wrong types are `unreadable`, refused values carry Calico's words.
 * Both fill in the defaults that Calico fills in, and give keys in Calico's order (`encode.ts` relies on it).
 */
import * as z from 'zod/v3';
import {
  bgpConfigurationSpec,
  checkIPReservation,
  clusterInformationSpec,
  ipReservationSpec,
} from './configuration.ts';
import { checkFelixConfiguration, felixConfigurationSpec } from './felix-configuration.ts';
import { type Check, type ObjectMaker, objectMaker, type Reading } from './fields.ts';
import { checkIPPool, ipPoolSpec } from './ip-pool.ts';
import { labelProblems, metadataSchema, nameProblem } from './metadata.ts';
import { checkNode, nodeSpec, nodeStatus } from './node.ts';
import { type Decoded, type Problem, pathText } from './problem.ts';
import { API_VERSION, type Kind, type ResourceOf } from './resources.ts';
import { checkWorkloadEndpoint, workloadEndpointSpec } from './workload-endpoint.ts';
import { workloadEndpointName } from './workload-endpoint-name.ts';

interface Description {
  readonly spec: (object: ObjectMaker) => z.ZodTypeAny;
  readonly check?: Check;
}

const DESCRIPTIONS: Readonly<Record<Kind, Description>> = {
  IPPool: { spec: ipPoolSpec, check: checkIPPool },
  Node: { spec: nodeSpec, check: checkNode },
  WorkloadEndpoint: { spec: workloadEndpointSpec, check: checkWorkloadEndpoint },
  BGPConfiguration: { spec: bgpConfigurationSpec },
  FelixConfiguration: { spec: felixConfigurationSpec, check: checkFelixConfiguration },
  ClusterInformation: { spec: clusterInformationSpec },
  IPReservation: { spec: ipReservationSpec, check: checkIPReservation },
};

const schemas = new Map<string, z.ZodTypeAny>();

function schemaOf(kind: Kind, reading: Reading): z.ZodTypeAny {
  const id = `${kind} ${reading}`;
  let schema = schemas.get(id);
  if (!schema) {
    const object = objectMaker(reading);
    schema = object({
      kind: z.literal(kind),
      apiVersion: z.literal(API_VERSION),
      metadata: metadataSchema(object).default({}),
      spec: DESCRIPTIONS[kind].spec(object).default({}),
      ...(kind === 'Node' ? { status: nodeStatus(object) } : {}),
    });
    schemas.set(id, schema);
  }
  return schema;
}

/** The part of a resource that its check is about. */
function checkOfSpec(kind: Kind): Check | undefined {
  const { check } = DESCRIPTIONS[kind];
  return (
    check &&
    (({ spec = {} }, refuse) => {
      if (isObject(spec)) check(spec, (path, refusal) => refuse(['spec', ...path], refusal));
    })
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A plain value (from JSON or YAML) as a resource, or every problem that it has. Never throws. */
export function decodeResource<K extends Kind>(
  kind: K,
  value: unknown,
  reading: Reading,
): Decoded<ResourceOf<K>> {
  const decoded = decodeWith(schemaOf(kind, reading), checkOfSpec(kind), value);
  const identity = reading === 'strict' ? identityProblems(kind, value) : [];
  if (reading === 'strict' && isObject(value)) identity.push(...labelProblems(value.metadata));
  if (decoded.ok && !identity.length) return decoded as Decoded<ResourceOf<K>>;
  return { ok: false, problems: [...(decoded.ok ? [] : decoded.problems), ...identity] };
}

/** The same for any schema that is made of `fields.ts`. */
export function decodeWith<T>(
  schema: z.ZodType<T, z.ZodTypeDef, unknown>,
  check: Check | undefined,
  value: unknown,
): Decoded<T> {
  const plain = withoutNulls(value, 0);
  if (plain === TOO_DEEP)
    return {
      ok: false,
      problems: [{ sort: 'unreadable', path: [], reason: `expected at most ${MAX_DEPTH} levels of nesting` }],
    };
  const result = schema.safeParse(plain);
  const problems = result.success ? [] : result.error.issues.flatMap((issue) => problemsOf(issue, value));
  if (check && isObject(plain))
    check(plain, (path, refusal) => problems.push({ sort: 'refused', path, ...refusal }));
  return result.success && !problems.length ? { ok: true, resource: result.data } : { ok: false, problems };
}

const MAX_DEPTH = 100;
const TOO_DEEP = Symbol('nested too deeply');

/** Go reads null as an absent field; Calico itself prints `creationTimestamp: null`. */
function withoutNulls(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH) return TOO_DEEP;
  if (Array.isArray(value)) {
    const items = value.map((item) => withoutNulls(item, depth + 1));
    return items.includes(TOO_DEEP) ? TOO_DEEP : items;
  }
  const kept: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(value)) {
    const plain = withoutNulls(field, depth + 1);
    if (plain === TOO_DEEP) return TOO_DEEP;
    if (plain !== null) Object.defineProperty(kept, key, { value: plain, enumerable: true });
  }
  return kept;
}

function problemsOf(issue: z.ZodIssue, input: unknown): Problem[] {
  const { path } = issue;
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ sort: 'unreadable', path: [...path, key], reason: 'unknown field' }));
  const params = issue.code === 'custom' ? issue.params : undefined;
  if (params && !params.unreadable) {
    const { field, value, reason } = params as { field?: string; value?: string; reason: string };
    const named = field === undefined ? {} : { field };
    return [{ sort: 'refused', path, reason, ...named, ...(value === undefined ? {} : { value }) }];
  }
  const reason = params ? String(params.reason) : typeReason(issue, path, input);
  const wantsText = issue.code === 'invalid_type' && issue.expected === 'string';
  return [{ sort: 'unreadable', path, reason, ...(wantsText && { wantsText }) }];
}

const GO_TYPE: Readonly<Record<string, string>> = {
  boolean: 'bool',
  int: 'int',
  array: 'list',
  record: 'map',
  object: 'object',
};

function typeReason(issue: z.ZodIssue, path: readonly (string | number)[], input: unknown): string {
  const got = path.reduce<unknown>(
    (value, step) => (value as Record<string, unknown> | undefined)?.[step],
    input,
  );
  const gotText = got === undefined ? 'nothing' : `${typeOf(got)} '${shortened(got)}'`;
  const expected = issue.code === 'invalid_type' ? issue.expected : undefined;
  return expected
    ? `cannot parse ${gotText} into field ${pathText(path)} of type ${GO_TYPE[expected] ?? expected}`
    : `cannot parse ${gotText} into field ${pathText(path)}: ${issue.message}`;
}

function typeOf(value: unknown): string {
  return Array.isArray(value) ? 'list' : typeof value;
}

const SHOWN_CHARACTERS = 60;

function shortened(value: unknown): string {
  const text = typeof value === 'object' ? (JSON.stringify(value) ?? '') : String(value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}

/** Names are judged in manifests only: what is stored has its name from its key. */
function identityProblems(kind: Kind, value: unknown): Problem[] {
  const { metadata, spec } = (value ?? {}) as { metadata?: { name?: unknown } | null; spec?: unknown };
  const name = metadata?.name ?? '';
  if (typeof name !== 'string') return [];
  const path = ['metadata', 'name'];
  const reason = nameProblem(name);
  if (reason) return [{ sort: 'refused', path, field: 'Metadata.Name', value: name, reason }];
  if (kind !== 'WorkloadEndpoint' || typeof spec !== 'object' || spec === null) return [];
  const expected = workloadEndpointName(spec);
  if (name === expected) return [];
  const mismatch = `the WorkloadEndpoint name does not match the primary identifiers assigned in the Spec: expected name ${expected}`;
  return [{ sort: 'refused', path, field: 'Name', value: name, reason: mismatch }];
}
