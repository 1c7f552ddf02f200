/** What forbids a pool because of what is stored: overlap with another, and fields that may not change. */
import { cidrsOverlap, parseCidr } from './cidr.ts';
import type { Problem } from './problem.ts';
import type { IPPool } from './resources.ts';

/** `before` is the pool's stored form where it is there already; `others` may contain it too. */
export function poolConflicts(
  pool: IPPool,
  before: IPPool | undefined,
  others: readonly IPPool[],
): Problem[] {
  const refusedCidr = (reason: string): Problem => ({
    sort: 'refused',
    path: ['spec', 'cidr'],
    field: 'IPPool.Spec.CIDR',
    value: pool.spec.cidr,
    reason,
  });
  const problems: Problem[] = [];
  if (before && before.spec.cidr !== pool.spec.cidr)
    problems.push(refusedCidr('IPPool CIDR cannot be modified'));
  if (before && before.spec.blockSize !== pool.spec.blockSize)
    problems.push({
      sort: 'refused',
      path: ['spec', 'blockSize'],
      field: 'IPPool.Spec.BlockSize',
      value: String(pool.spec.blockSize),
      reason: 'IPPool BlockSize cannot be modified',
    });
  if (problems.length) return problems;
  const cidr = parseCidr(pool.spec.cidr);
  for (const other of others) {
    const otherCidr = parseCidr(other.spec.cidr);
    if (other.metadata.name === pool.metadata.name || !cidr || !otherCidr || !cidrsOverlap(cidr, otherCidr))
      continue;
    problems.push(
      refusedCidr(
        `IPPool(${pool.metadata.name}) CIDR overlaps with IPPool(${other.metadata.name}) CIDR ${other.spec.cidr}`,
      ),
    );
  }
  return problems;
}
