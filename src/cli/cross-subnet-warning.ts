/**
 * Calico's page asks that every node's subnet be right before cross-subnet is enabled; nodes from before Calico v2.1
 * are /32s. Whoever enables it while there are such nodes is told which.
 */
import { parseInterfaceAddress } from '../ip/prefix.ts';
import type { IPPool } from '../model/resources.ts';
import type { ResourceClient } from './resource-client.ts';

/** More would hide the sentence around them. */
const NODES_NAMED = 10;

export function isCrossSubnet({ spec }: IPPool): boolean {
  return spec.ipipMode === 'CrossSubnet';
}

/** On stderr; says nothing where every node has a subnet. */
export async function warnOfNodesWithoutSubnet(client: ResourceClient): Promise<void> {
  const { resources } = await client.list('Node');
  const without = resources.flatMap(({ metadata, spec }) => {
    const address = parseInterfaceAddress(spec.bgp?.ipv4Address ?? '');
    return address?.length === 32 ? [`${metadata.name} (${spec.bgp?.ipv4Address})`] : [];
  });
  if (!without.length) return;
  const more = without.length > NODES_NAMED ? ` and ${without.length - NODES_NAMED} more` : '';
  process.stderr.write(
    `Warning: cross-subnet needs the subnet of every node, and these have none: ${without.slice(0, NODES_NAMED).join(', ')}${more}\n` +
      "They will encapsulate to every node, and their neighbours' plain packets are answered encapsulated.\n" +
      "'tortie node check' prints the commands that mend them.\n",
  );
}
