/** The tables of `ipam show`. */
import { formatIpv4 } from '../../ip/ipv4.ts';
import { parsePrefix, prefixCovers, prefixSize } from '../../ip/prefix.ts';
import { allocationsOf, blockOwner, blockPrefix } from '../../model/ipam-values.ts';
import type { IPPool, IpamAttributes, IpamBlock, IpamConfig } from '../../model/resources.ts';
import { boxTable } from './box-table.ts';

interface Usage {
  readonly cidr: string;
  readonly total: number;
  readonly inUse: number;
}

export interface PoolUsage extends Usage {
  readonly name: string;
  readonly blocks: readonly Usage[];
}

/** Pools in the order of the listing, each with its blocks in the order of their text. */
export function utilization(pools: readonly IPPool[], blocks: readonly IpamBlock[]): PoolUsage[] {
  return pools.flatMap(({ metadata, spec }) => {
    const prefix = parsePrefix(spec.cidr);
    if (!prefix) return [];
    const own = blocks
      .filter((block) => prefixCovers(prefix, blockPrefix(block)))
      .map((block) => ({
        cidr: block.cidr,
        total: block.allocations.length,
        inUse: allocationsOf(block).length,
      }))
      .sort((a, b) => (a.cidr < b.cidr ? -1 : 1));
    const inUse = own.reduce((sum, block) => sum + block.inUse, 0);
    return [{ name: metadata.name, cidr: spec.cidr, total: prefixSize(prefix), inUse, blocks: own }];
  });
}

export function utilizationTable(pools: readonly PoolUsage[], showBlocks: boolean): string {
  const row = (grouping: string, { cidr, total, inUse }: Usage) => [
    ...[grouping, cidr, String(total)],
    ...[withShare(inUse, total), withShare(total - inUse, total)],
  ];
  const rows = pools.flatMap((pool) => [
    row('IP Pool', pool),
    ...(showBlocks ? pool.blocks.map((block) => row('Block', block)) : []),
  ]);
  return boxTable(['GROUPING', 'CIDR', 'IPS TOTAL', 'IPS IN USE', 'IPS FREE'], rows);
}

function withShare(count: number, total: number): string {
  return `${count} (${halfToEven((100 * count) / total)}%)`;
}

/** As Go's `%.f` rounds. */
function halfToEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

export function configurationTable(config: IpamConfig): string {
  return boxTable(
    ['PROPERTY', 'VALUE'],
    [
      ['StrictAffinity', String(config.strict_affinity)],
      ['AutoAllocateBlocks', String(config.auto_allocate_blocks)],
      ['MaxBlocksPerHost', String(config.maxBlocksPerHost)],
    ],
  );
}

/** Addresses that another node holds than the one whose block it is. */
export function borrowedTable(blocks: readonly IpamBlock[]): string {
  const rows = blocks.flatMap((block) =>
    allocationsOf(block).flatMap(({ address, attributes }) => {
      const node = attributes.secondary?.node;
      const owner = blockOwner(block);
      if (node === undefined || node === owner) return [];
      return [[formatIpv4(address), node, block.cidr, owner ?? '', ...purpose(attributes)]];
    }),
  );
  return boxTable(['IP', 'BORROWING-NODE', 'BLOCK', 'BLOCK OWNER', 'TYPE', 'ALLOCATED-TO'], rows);
}

function purpose({ handle_id, secondary }: IpamAttributes): [string, string] {
  if (secondary?.pod) return ['pod', `${secondary.namespace ?? ''}/${secondary.pod}`];
  return [secondary?.type ?? '', handle_id ?? ''];
}
