/**
 * What may be done to one block. Theory of operation: a block is a small prefix with one slot an address, its
 * ordinal. `allocations[ordinal]` points into `attributes` (who holds it), `unallocated` lists the free ordinals
 * in the order in which they are handed out: taken from the front, given back at the end, so that an address
 * rests for as long as possible before somebody else gets it. A node that owns the block (`affinity`) assigns
 * from it without asking anybody; others may borrow from it.
 *
 * Every function here is pure: a value in, the value to write out. The caller writes it by compare-and-swap
 * (control/address-allocator.ts), which is what makes two nodes with the same plan safe.
 *
 * The sequence number grows at each write; an address remembers the number at which it was given, so that a
 * late release of an older allocation can be told from the current one. It starts at the clock's nanoseconds:
 * a block that is deleted and made again does not repeat numbers.
 */
import { formatIpv4, type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix, prefixContains, prefixSize } from '../ip/prefix.ts';
import { blockPrefix } from '../model/ipam-values.ts';
import type { IpamAttributes, IpamBlock } from '../model/resources.ts';

/** Says of an address that it is kept out (IPReservation). */
export type Reserved = (address: Ipv4) => boolean;

export interface Taken {
  readonly block: IpamBlock;
  readonly addresses: readonly Ipv4[];
}

export interface Released {
  readonly block: IpamBlock;
  readonly addresses: readonly Ipv4[];
  /** How many addresses each handle lost. */
  readonly handles: ReadonlyMap<string, number>;
}

export function newBlock(prefix: Prefix, node: string, wallMs: number): IpamBlock {
  const size = prefixSize(prefix);
  return {
    cidr: formatPrefix(prefix),
    affinity: `host:${node}`,
    allocations: new Array<null>(size).fill(null),
    unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
    attributes: [],
    sequenceNumber: BigInt(Math.trunc(wallMs)) * 1_000_000n,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

/** Up to `count` free addresses in hand-out order; fewer, or none, where the block has no more. */
export function takeFromBlock(
  block: IpamBlock,
  count: number,
  attributes: IpamAttributes,
  reserved: Reserved,
): Taken {
  const base = blockPrefix(block).address;
  const ordinals = block.unallocated
    // A block that another program left inconsistent must not give an address twice.
    .filter((ordinal) => block.allocations[ordinal] === null)
    .filter((ordinal) => !reserved(ipv4FromNumber(base + ordinal)))
    .slice(0, count);
  return take(block, ordinals, attributes);
}

/** One address by name; undefined where it is not free. */
export function takeAddress(
  block: IpamBlock,
  address: Ipv4,
  attributes: IpamAttributes,
): IpamBlock | undefined {
  const prefix = blockPrefix(block);
  const ordinal = address - prefix.address;
  if (!prefixContains(prefix, address) || block.allocations[ordinal] !== null) return undefined;
  return take(block, [ordinal], attributes).block;
}

function take(block: IpamBlock, ordinals: readonly number[], attributes: IpamAttributes): Taken {
  if (ordinals.length === 0) return { block, addresses: [] };
  const base = blockPrefix(block).address;
  const known = block.attributes.findIndex((other) => sameAttributes(other, attributes));
  const index = known >= 0 ? known : block.attributes.length;
  const sequences = ordinals.map((ordinal) => [String(ordinal), block.sequenceNumber] as const);
  const taken = new Set(ordinals);
  return {
    block: {
      ...block,
      allocations: block.allocations.map((old, ordinal) => (taken.has(ordinal) ? index : old)),
      unallocated: block.unallocated.filter((ordinal) => !taken.has(ordinal)),
      attributes: known >= 0 ? block.attributes : [...block.attributes, attributes],
      sequenceNumber: block.sequenceNumber + 1n,
      sequenceNumberForAllocation: {
        ...block.sequenceNumberForAllocation,
        ...Object.fromEntries(sequences),
      },
    },
    addresses: ordinals.map((ordinal) => ipv4FromNumber(base + ordinal)),
  };
}

/** Gives back every allocated address for which `which` holds; undefined where that is none. */
export function releaseFromBlock(
  block: IpamBlock,
  which: (address: Ipv4, attributes: IpamAttributes) => boolean,
): Released | undefined {
  const base = blockPrefix(block).address;
  const handles = new Map<string, number>();
  const ordinals = new Set<number>();
  block.allocations.forEach((index, ordinal) => {
    const attributes = index === null ? undefined : block.attributes[index];
    if (!attributes || !which(ipv4FromNumber(base + ordinal), attributes)) return;
    ordinals.add(ordinal);
    if (attributes.handle_id) handles.set(attributes.handle_id, (handles.get(attributes.handle_id) ?? 0) + 1);
  });
  if (ordinals.size === 0) return undefined;
  const kept = block.allocations.map((index, ordinal) => (ordinals.has(ordinal) ? null : index));
  return {
    block: {
      ...block,
      ...compacted(kept, block.attributes),
      unallocated: [...block.unallocated.filter((ordinal) => !ordinals.has(ordinal)), ...ordinals],
      sequenceNumber: block.sequenceNumber + 1n,
    },
    addresses: [...ordinals].map((ordinal) => ipv4FromNumber(base + ordinal)),
    handles,
  };
}

/** Attributes that nothing points to any more are dropped, and the indices follow. */
function compacted(
  allocations: readonly (number | null)[],
  attributes: readonly IpamAttributes[],
): Pick<IpamBlock, 'allocations' | 'attributes'> {
  const used = new Set(allocations);
  const moved = new Map<number, number>();
  const kept = attributes.filter((_, index) => {
    if (used.has(index)) moved.set(index, moved.size);
    return used.has(index);
  });
  return {
    allocations: allocations.map((index) => (index === null ? null : (moved.get(index) ?? null))),
    attributes: kept,
  };
}

/** The same block as nobody's: its addresses stay in use, and it goes when the last one is given back. */
export function withoutAffinity(block: IpamBlock): IpamBlock {
  return { ...block, affinity: null, sequenceNumber: block.sequenceNumber + 1n };
}

/** The same content at a new revision: whoever decided on the old one fails his compare-and-swap. */
export function rewritten(block: IpamBlock): IpamBlock {
  return { ...block, sequenceNumber: block.sequenceNumber + 1n };
}

export function isEmpty(block: IpamBlock): boolean {
  return block.allocations.every((index) => index === null);
}

/** Who holds an address; undefined where it is free or not in this block. */
export function holderOf(block: IpamBlock, address: Ipv4): IpamAttributes | undefined {
  const prefix = blockPrefix(block);
  if (!prefixContains(prefix, address)) return undefined;
  const index = block.allocations[address - prefix.address] ?? null;
  return index === null ? undefined : block.attributes[index];
}

export function sameAttributes(a: IpamAttributes, b: IpamAttributes): boolean {
  const left = Object.entries(a.secondary ?? {});
  const right = b.secondary ?? {};
  return (
    (a.handle_id ?? null) === (b.handle_id ?? null) &&
    left.length === Object.keys(right).length &&
    left.every(([key, value]) => right[key] === value)
  );
}

/** What a block holds against its own rules; empty for a well-formed one. `ipam check` prints it. */
export function blockProblems(block: IpamBlock): string[] {
  const problems: string[] = [];
  const base = blockPrefix(block).address;
  const name = (ordinal: number) => formatIpv4(base + ordinal);
  const free = new Set<number>();
  for (const ordinal of block.unallocated) {
    if (free.has(ordinal)) problems.push(`${name(ordinal)} is listed twice as free`);
    free.add(ordinal);
    if (block.allocations[ordinal] !== null)
      problems.push(`${name(ordinal)} is listed as free and is allocated`);
  }
  block.allocations.forEach((index, ordinal) => {
    if (index === null && !free.has(ordinal)) problems.push(`${name(ordinal)} is neither free nor allocated`);
    if (index !== null && block.sequenceNumberForAllocation[ordinal] === undefined)
      problems.push(`${name(ordinal)} has no sequence number`);
  });
  const used = new Set(block.allocations);
  block.attributes.forEach((attributes, index) => {
    if (!used.has(index)) problems.push(`attributes of ${attributes.handle_id ?? 'no handle'} are left over`);
  });
  return problems;
}
