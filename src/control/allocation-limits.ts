/** The pools of an allocation, and why there is no address: what failed, what there is instead, what to do. */
import { FailedError, InvalidError } from '../base/errors.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { type AllocationPool, poolsByName, poolsFor, type Use } from '../ipam/pools.ts';
import { blockOwner } from '../model/ipam-values.ts';
import type { IPPool, IpamAttributes, IpamBlock, Node } from '../model/resources.ts';

export function automaticPools(pools: readonly IPPool[], node: Node, use: Use): readonly AllocationPool[] {
  const chosen = poolsFor(pools, node, use);
  if (chosen.length > 0) return chosen;
  throw new FailedError(
    'ERR_NO_POOL',
    `no IP pool gives ${use.toLowerCase()} addresses to node ${node.metadata.name}: there are ${pools.length} pools`,
    {
      hint: 'a pool must be enabled, of automatic assignment, for that use, and its nodeSelector must match',
    },
  );
}

export function requestedPools(
  pools: readonly IPPool[],
  names: readonly string[],
  use: Use,
): readonly AllocationPool[] {
  return poolsByName(pools, names, use).map((pool, index) => {
    if (pool) return pool;
    throw new FailedError(
      'ERR_NO_POOL',
      `the IP pool ${names[index]} does not exist, is disabled, or is not for ${use.toLowerCase()} addresses`,
      { hint: '`tortie get ippools -o wide`' },
    );
  });
}

export function notInPool(address: Ipv4, pools: readonly IPPool[]): InvalidError {
  const known = pools.map(({ spec }) => `${spec.cidr}${spec.disabled ? ' (disabled)' : ''}`).join(', ');
  return new InvalidError(
    'ERR_ADDRESS_NOT_IN_POOL',
    `${formatIpv4(address)} is in no enabled IP pool; the pools are: ${known || 'none'}`,
    { hint: '`tortie get ippools -o wide`' },
  );
}

export function inUse(address: Ipv4, holder: IpamAttributes | undefined): FailedError {
  const who = holder?.handle_id ?? 'somebody without a handle';
  const where = holder?.secondary?.node ? ` on node ${holder.secondary.node}` : '';
  return new FailedError('ERR_ADDRESS_IN_USE', `${formatIpv4(address)} is in use by ${who}${where}`, {
    hint: `choose another, or \`tortie ipam release --ip=${formatIpv4(address)}\` if that one is gone`,
  });
}

export function strictlyAnothers(address: Ipv4, block: IpamBlock): FailedError {
  return new FailedError(
    'ERR_ADDRESS_STRICT',
    `${formatIpv4(address)} is in block ${block.cidr} of ${blockOwner(block) ?? 'nobody'}, and affinity is strict`,
    { hint: 'choose an address of another block, or `tortie ipam configure --strictaffinity=false`' },
  );
}
