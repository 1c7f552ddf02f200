/**
 * The topology file: what a lab consists of, as a person writes it (docs/lab.md). One strict schema reports
 * every problem with its path; what a file leaves out is filled in from the position of a thing in the file,
 * so that the same file always gives the same lab. Pure: nothing here looks at the machine.
 */
import { z } from 'zod';
import { InvalidError } from '../base/errors.ts';
import { formatIpv4, type Ipv4, ipv4FromNumber, parseIpv4 } from '../ip/ipv4.ts';
import {
  formatPrefix,
  type Prefix,
  parsePrefix,
  prefix,
  prefixContains,
  prefixesOverlap,
  prefixSize,
} from '../ip/prefix.ts';

/** What the fabric lets through; `fabric.ts` says it for each profile. */
export const FABRIC_PROFILES = ['l2', 'vpc', 'aws', 'gce', 'azure', 'openstack'] as const;
export type FabricProfile = (typeof FABRIC_PROFILES)[number];

/** What a fabric does; each profile is one set of these (fabric.ts). */
export interface FabricRules {
  /** Whether the router drops what is not from its subnets' own hosts to them or out to the internet. */
  readonly routerChecks: boolean;
  /** What a node's port checks: that the node owns the source of what it sends, the destination of what it gets. */
  readonly portChecks: 'nothing' | 'source' | 'source-and-destination';
  /** Whether neighbours in a zone reach each other without the router. */
  readonly sharedLink: boolean;
  readonly passesProtocol4: boolean;
}

export interface AgentFlags {
  readonly transport?: 'ipip' | 'udp' | 'auto' | undefined;
  readonly sender?: 'auto' | 'raw' | 'packet' | undefined;
  readonly fastPath?: 'auto' | 'ebpf' | 'off' | undefined;
}

export interface Zone {
  readonly name: string;
  readonly subnet: Prefix;
  /** The router's address in the zone: the subnet's first. */
  readonly gateway: Ipv4;
}

export interface LabNode {
  readonly name: string;
  readonly zone: string;
  readonly address: Ipv4;
  readonly agent: AgentFlags;
}

export interface LabWorkload {
  readonly name: string;
  readonly node: string;
}

export interface Topology {
  readonly name: string;
  /** `etcd`: three members of the lab's own. */
  readonly datastore: 'file' | 'etcd';
  readonly fabric: {
    readonly profile: FabricProfile;
    /** In place of the profile's, one by one. */
    readonly rules: Partial<FabricRules>;
    /** Without one, the profile's. */
    readonly mtu?: number | undefined;
  };
  readonly zones: readonly Zone[];
  readonly nodes: readonly LabNode[];
  readonly workloads: readonly LabWorkload[];
  /** Manifest files, as the file names them: relative to its directory. */
  readonly manifests: readonly string[];
}

/** Beyond the router, in every lab (RFC 5737 TEST-NET-2). */
export const INTERNET_SUBNET = prefix('198.51.100.0/24');
export const INTERNET_GATEWAY = ipv4FromNumber(INTERNET_SUBNET.address + 1);
export const INTERNET_HOST = ipv4FromNumber(INTERNET_SUBNET.address + 10);

/** Management networks are subnets of this. */
export const MANAGEMENT_RANGE = prefix('198.18.0.0/15');

/** Hosts of every lab that the file does not name. */
export const FABRIC = 'fabric';
export const ROUTER = 'router';
export const INTERNET = 'internet';
/** The management network, with etcd: its bridge's namespace and the members'. */
export const MANAGEMENT = 'mgmt';
export const MEMBERS: readonly string[] = ['etcd1', 'etcd2', 'etcd3'];
const RESERVED: readonly string[] = [
  ...[FABRIC, ROUTER, INTERNET, MANAGEMENT, ...MEMBERS],
  ...['localhost', 'lo', 'host'],
];

/** A node's name is also its port's in the fabric: Linux gives an interface 15 characters. */
const MAX_HOST_NAME = 15;
/** A zone's bridge is `br-ZONE`. */
const MAX_ZONE_NAME = 12;
/** The lab's name is in the name of each of its namespaces and in paths of sockets (108 bytes). */
const MAX_LAB_NAME = 32;

/** Nodes are numbered from .11 in their zone, which leaves room for the router and for guests. */
const FIRST_NODE_OFFSET = 11;

const label = (limit: number) =>
  z
    .string()
    .max(limit)
    .regex(/^[a-z](?:[a-z0-9-]*[a-z0-9])?$/, 'expected lower-case letters, digits and -, first a letter');

const unreserved = (limit: number) =>
  label(limit).refine(
    (name) => !RESERVED.includes(name) && !/^(?:br|rt)-/.test(name),
    'is reserved for the lab itself',
  );
const hostName = unreserved(MAX_HOST_NAME);

const agentSchema = z.strictObject({
  transport: z.enum(['ipip', 'udp', 'auto']).optional(),
  sender: z.enum(['auto', 'raw', 'packet']).optional(),
  fastPath: z.enum(['auto', 'ebpf', 'off']).optional(),
});

const rulesSchema = z
  .strictObject({
    routerChecks: z.boolean(),
    portChecks: z.enum(['nothing', 'source', 'source-and-destination']),
    sharedLink: z.boolean(),
    passesProtocol4: z.boolean(),
  })
  .partial();

const fileSchema = z.strictObject({
  name: label(MAX_LAB_NAME),
  datastore: z.enum(['file', 'etcd']).default('file'),
  fabric: z
    .strictObject({
      profile: z.enum(FABRIC_PROFILES).default('vpc'),
      rules: rulesSchema.default({}),
      mtu: z.int().min(576).max(9216).optional(),
    })
    .default({ profile: 'vpc', rules: {} }),
  zones: z.record(unreserved(MAX_ZONE_NAME), z.strictObject({ subnet: z.string() })),
  nodes: z.record(
    hostName,
    z.strictObject({ zone: z.string(), address: z.string().optional(), agent: agentSchema.optional() }),
  ),
  workloads: z.record(hostName, z.strictObject({ node: z.string() })).default({}),
  manifests: z.array(z.string().min(1)).default([]),
  agent: agentSchema.default({}),
});

type TopologyFile = z.infer<typeof fileSchema>;

/** The topology, or every problem of it in one InvalidError. `source` is what messages call the file. */
export function parseTopology(value: unknown, source: string): Topology {
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) throw invalid(source, parsed.error.issues.map(issueText));
  const problems: string[] = [];
  const topology = resolve(parsed.data, problems);
  if (problems.length) throw invalid(source, problems);
  return topology;
}

function invalid(source: string, problems: readonly string[]): InvalidError {
  return new InvalidError('ERR_LAB_TOPOLOGY', `${source} is not a topology:\n  ${problems.join('\n  ')}`, {
    hint: 'docs/lab.md describes the file; examples/two-az.yaml is one',
  });
}

function issueText(issue: z.core.$ZodIssue): string {
  const detail = issue.code === 'invalid_key' ? issue.issues.map((i) => i.message).join(', ') : issue.message;
  return `${issue.path.join('.') || 'the file'}: ${detail}`;
}

function resolve(file: TopologyFile, problems: string[]): Topology {
  const zones = resolveZones(file, problems);
  const nodes = resolveNodes(file, zones, problems);
  const workloads = Object.entries(file.workloads).map(([name, { node }]) => {
    if (!(node in file.nodes)) problems.push(`workloads.${name}.node: there is no node "${node}"`);
    if (name in file.nodes) problems.push(`workloads.${name}: a node has this name`);
    return { name, node };
  });
  return {
    name: file.name,
    datastore: file.datastore,
    fabric: file.fabric as Topology['fabric'],
    zones,
    nodes,
    workloads,
    manifests: file.manifests,
  };
}

function resolveZones(file: TopologyFile, problems: string[]): Zone[] {
  const zones: Zone[] = [];
  for (const [name, { subnet: text }] of Object.entries(file.zones)) {
    const path = `zones.${name}.subnet`;
    const subnet = parsePrefix(text);
    if (!subnet || subnet.length > 30) {
      problems.push(`${path}: expected a prefix without host bits and of at most 30 bits, got "${text}"`);
      continue;
    }
    const others = [
      ...zones,
      { name: INTERNET, subnet: INTERNET_SUBNET },
      ...(file.datastore === 'etcd' ? [{ name: MANAGEMENT, subnet: MANAGEMENT_RANGE }] : []),
    ];
    for (const other of others.filter((o) => prefixesOverlap(o.subnet, subnet)))
      problems.push(`${path}: ${text} overlaps ${formatPrefix(other.subnet)} of ${other.name}`);
    zones.push({ name, subnet, gateway: ipv4FromNumber(subnet.address + 1) });
  }
  if (Object.keys(file.zones).length === 0) problems.push('zones: expected at least one');
  return zones;
}

function resolveNodes(file: TopologyFile, zones: readonly Zone[], problems: string[]): LabNode[] {
  const nodes: LabNode[] = [];
  const perZone = new Map<string, number>();
  for (const [name, given] of Object.entries(file.nodes)) {
    const zone = zones.find((z) => z.name === given.zone);
    if (!zone) {
      if (!(given.zone in file.zones)) problems.push(`nodes.${name}.zone: there is no zone "${given.zone}"`);
      continue;
    }
    const position = perZone.get(zone.name) ?? 0;
    perZone.set(zone.name, position + 1);
    const address = nodeAddress(zone, given.address, position);
    if (typeof address === 'string') {
      problems.push(`nodes.${name}.address: ${address}`);
      continue;
    }
    const twin = nodes.find((n) => n.address === address);
    if (twin) problems.push(`nodes.${name}.address: ${formatIpv4(address)} is ${twin.name}'s`);
    nodes.push({ name, zone: zone.name, address, agent: { ...file.agent, ...given.agent } });
  }
  if (Object.keys(file.nodes).length === 0) problems.push('nodes: expected at least one');
  return nodes;
}

/** The address given or that of the node's position in its zone; or what is wrong with it. */
function nodeAddress(zone: Zone, given: string | undefined, position: number): Ipv4 | string {
  const subnet = formatPrefix(zone.subnet);
  if (given === undefined) {
    const offset = FIRST_NODE_OFFSET + position;
    return offset < prefixSize(zone.subnet) - 1
      ? ipv4FromNumber(zone.subnet.address + offset)
      : `${subnet} has no address .${offset}: give the node one`;
  }
  const address = parseIpv4(given);
  if (address === undefined || !prefixContains(zone.subnet, address))
    return `expected an address of ${subnet}, got "${given}"`;
  const offset = address - zone.subnet.address;
  if (offset === 0 || offset === prefixSize(zone.subnet) - 1) return `${given} is no host's address`;
  return address === zone.gateway ? `${given} is the router's` : address;
}
