/**
 * The values below /calico/ipam/v2 between text and types: blocks, affinities, handles, configuration.
 *
 * Reading is tolerant, since other programs and other versions write here too: fields that we do not know stay
 * on the object that was read, so that a spread (`{ ...block, affinity: null }`) carries them to the next write.
 * Writing is exact: Calico's field order, presence of fields and order of map keys (Go sorts them as strings).
 */
import { type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { type Prefix, parsePrefix, prefixSize } from '../ip/prefix.ts';
import { parseExactJson, stringifyExactJson } from './exact-json.ts';
import type {
  AffinityState,
  IpamAffinity,
  IpamAttributes,
  IpamBlock,
  IpamConfig,
  IpamHandle,
} from './resources.ts';

export type Decoded<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: string };

type Fields = Record<string, unknown>;

/** What Calico takes where no configuration is stored, and stores at its first allocation. */
export const DEFAULT_IPAM_CONFIG: IpamConfig = Object.freeze({
  strict_affinity: false,
  auto_allocate_blocks: true,
  maxBlocksPerHost: 0,
});

const AFFINITY_STATES: readonly string[] = ['pending', 'confirmed', 'pendingDeletion'];

function decode<T>(text: string, read: (fields: Fields) => T): Decoded<T> {
  try {
    const parsed = parseExactJson(text);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
      throw new SyntaxError('expected an object');
    return { ok: true, value: read(parsed as Fields) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { ok: false, problem: error.message };
  }
}

function expected(path: string, what: string, got: unknown): SyntaxError {
  return new SyntaxError(`${path}: expected ${what}, got ${stringifyExactJson(got ?? null)}`);
}

/** A map as Go has it: null and absent are empty. */
function mapOf<T>(
  path: string,
  value: unknown,
  read: (path: string, member: unknown) => T,
): Record<string, T> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw expected(path, 'an object', value);
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, read(`${path}.${key}`, member)]),
  );
}

function listOf<T>(path: string, value: unknown, read: (path: string, member: unknown) => T): T[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw expected(path, 'a list', value);
  return value.map((member, index) => read(`${path}[${index}]`, member));
}

function textOf(path: string, value: unknown): string {
  if (typeof value !== 'string') throw expected(path, 'a string', value);
  return value;
}

function uint64Of(path: string, value: unknown): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw expected(path, 'an unsigned 64-bit integer', value);
}

function countOf(path: string, value: unknown, bound: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < bound) return value;
  throw expected(path, `an integer from 0 to ${bound - 1}`, value);
}

function attributesOf(path: string, value: unknown): IpamAttributes {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw expected(path, 'an object', value);
  const { handle_id, secondary, ...unknown } = value as Fields;
  return {
    handle_id: handle_id === undefined || handle_id === null ? null : textOf(`${path}.handle_id`, handle_id),
    secondary:
      secondary === undefined || secondary === null ? null : mapOf(`${path}.secondary`, secondary, textOf),
    ...unknown,
  };
}

/** Before Calico 3 had other kinds of owner, `hostAffinity: node1` was what `affinity: host:node1` is now. */
function blockAffinityOf(fields: Fields): string | null {
  if (fields.affinity !== undefined && fields.affinity !== null) return textOf('affinity', fields.affinity);
  const old = fields.hostAffinity;
  return old === undefined || old === null ? null : `host:${textOf('hostAffinity', old)}`;
}

function readBlock(fields: Fields): IpamBlock {
  const { hostAffinity: _old, ...known } = fields;
  const cidr = textOf('cidr', fields.cidr);
  const block = parsePrefix(cidr);
  if (!block || block.length < 16) throw expected('cidr', 'an IPv4 prefix of a block', cidr);
  const size = prefixSize(block);
  const attributes = listOf('attributes', fields.attributes, attributesOf);
  const allocations = listOf('allocations', fields.allocations, (path, index) =>
    index === null ? null : countOf(path, index, attributes.length),
  );
  if (allocations.length !== size)
    throw new SyntaxError(`allocations: expected ${size} entries for ${cidr}, got ${allocations.length}`);
  return {
    ...known,
    cidr,
    affinity: blockAffinityOf(fields),
    allocations,
    unallocated: listOf('unallocated', fields.unallocated, (path, ordinal) => countOf(path, ordinal, size)),
    attributes,
    sequenceNumber: uint64Of('sequenceNumber', fields.sequenceNumber ?? 0),
    sequenceNumberForAllocation: mapOf(
      'sequenceNumberForAllocation',
      fields.sequenceNumberForAllocation,
      uint64Of,
    ),
    deleted: fields.deleted === true,
  };
}

export function decodeBlock(text: string): Decoded<IpamBlock> {
  return decode(text, readBlock);
}

/** `""` and `{}` are what the first versions of Calico stored for a confirmed affinity. */
export function decodeAffinity(text: string): Decoded<IpamAffinity> {
  return decode(text.trim() === '' ? '{}' : text, (fields) => {
    const state = fields.state === undefined || fields.state === '' ? 'confirmed' : fields.state;
    if (typeof state !== 'string' || !AFFINITY_STATES.includes(state))
      throw expected('state', AFFINITY_STATES.join(', '), state);
    return { ...fields, state: state as AffinityState, deleted: fields.deleted === true };
  });
}

export function decodeHandle(text: string): Decoded<IpamHandle> {
  return decode(text, (fields) => ({
    ...fields,
    block: mapOf('block', fields.block, (path, count) => countOf(path, count, 2 ** 32)),
    deleted: fields.deleted === true,
  }));
}

export function decodeIpamConfig(text: string): Decoded<IpamConfig> {
  return decode(text, (fields) => ({
    ...fields,
    strict_affinity: fields.strict_affinity === true,
    auto_allocate_blocks: fields.auto_allocate_blocks === true,
    maxBlocksPerHost: countOf('maxBlocksPerHost', fields.maxBlocksPerHost ?? 0, 2 ** 31),
  }));
}

/** Go sorts the keys of maps as strings: "10" comes before "2". */
function sortedMembers(map: Readonly<Record<string, unknown>>): string {
  const members = Object.keys(map)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${stringifyExactJson(map[key])}`);
  return `{${members.join(',')}}`;
}

/** The members of an object as text, in the order given, then those that we do not know. */
function encode(known: readonly (readonly [string, string])[], unknown: object): string {
  const rest = Object.entries(unknown)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, stringifyExactJson(value)] as const);
  return `{${[...known, ...rest].map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(',')}}`;
}

function encodeAttributes(attributes: IpamAttributes): string {
  const { handle_id, secondary, ...unknown } = attributes;
  return encode(
    [
      ['handle_id', JSON.stringify(handle_id ?? null)],
      ['secondary', secondary ? sortedMembers(secondary) : 'null'],
    ],
    unknown,
  );
}

export function encodeBlock(block: IpamBlock): string {
  const {
    cidr,
    affinity,
    allocations,
    unallocated,
    attributes,
    sequenceNumber,
    sequenceNumberForAllocation,
    deleted,
    ...unknown
  } = block;
  return encode(
    [
      ['cidr', JSON.stringify(cidr)],
      ['affinity', JSON.stringify(affinity)],
      ['allocations', JSON.stringify(allocations)],
      ['unallocated', JSON.stringify(unallocated)],
      ['attributes', `[${attributes.map(encodeAttributes).join(',')}]`],
      ['sequenceNumber', sequenceNumber.toString()],
      ['sequenceNumberForAllocation', sortedMembers(sequenceNumberForAllocation)],
      ['deleted', String(deleted)],
    ],
    unknown,
  );
}

export function encodeAffinity(affinity: IpamAffinity): string {
  const { state, deleted, ...unknown } = affinity;
  return encode(
    [
      ['state', JSON.stringify(state)],
      ['deleted', String(deleted)],
    ],
    unknown,
  );
}

export function encodeHandle(handle: IpamHandle): string {
  const { block, deleted, ...unknown } = handle;
  return encode(
    [
      ['block', sortedMembers(block)],
      ['deleted', String(deleted)],
    ],
    unknown,
  );
}

/** Calico leaves out what is false or 0, but for auto_allocate_blocks. */
export function encodeIpamConfig(config: IpamConfig): string {
  const { strict_affinity, auto_allocate_blocks, maxBlocksPerHost, ...unknown } = config;
  const known: [string, string][] = [['auto_allocate_blocks', String(auto_allocate_blocks)]];
  if (strict_affinity) known.unshift(['strict_affinity', 'true']);
  if (maxBlocksPerHost > 0) known.push(['maxBlocksPerHost', String(maxBlocksPerHost)]);
  return encode(known, unknown);
}

/** The node that owns a block; undefined where nobody does, or not a node (`virtual:load-balancer`). */
export function blockOwner(block: IpamBlock): string | undefined {
  return block.affinity?.startsWith('host:') ? block.affinity.slice('host:'.length) : undefined;
}

export interface BlockAllocation {
  readonly ordinal: number;
  readonly address: Ipv4;
  readonly attributes: IpamAttributes;
}

/** The addresses given from a block, in order. */
export function allocationsOf(block: IpamBlock): BlockAllocation[] {
  const { address } = blockPrefix(block);
  return block.allocations.flatMap((index, ordinal) => {
    const attributes = index === null ? undefined : block.attributes[index];
    return attributes ? [{ ordinal, address: ipv4FromNumber(address + ordinal), attributes }] : [];
  });
}

/** The prefix of a decoded block, whose `cidr` was checked on reading. */
export function blockPrefix(block: IpamBlock): Prefix {
  const prefix = parsePrefix(block.cidr);
  if (!prefix) throw new Error(`bug: a block that was not decoded: ${block.cidr}`);
  return prefix;
}

/** The handle that Calico gives a node's tunnel address. */
export function tunnelHandle(node: string): string {
  return `ipip-tunnel-addr-${node}`;
}

export const TUNNEL_ADDRESS_TYPE = 'ipipTunnelAddress';
