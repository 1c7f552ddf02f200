/** The fast path put before a node's data plane, in the node's namespace. */
import type { FastDataPlane } from '../../src/agent/fast-path-off.ts';
import { withFastPath } from '../../src/agent/fast-path-plane.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { readOuterObstacles } from '../../src/host/outer-obstacles.ts';
import type { OwnAddresses } from '../../src/host/outer-packet.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import type { TwoNodes } from './two-nodes.ts';

export const firewallOf = (namespace: string) => (legacyTables: string, own: OwnAddresses) =>
  readOuterObstacles({
    legacyTables,
    own,
    tunnelDevice: 'tunl0',
    enter: ['ip', 'netns', 'exec', namespace],
  });

export async function quicken(
  nodes: TwoNodes,
  node: 'a' | 'b',
  config: ForwardingConfig,
  mode: 'auto' | 'ebpf' = 'ebpf',
): Promise<FastDataPlane> {
  const plane = await withFastPath(nodes.planes[node], {
    mode,
    transport: 'ipip',
    logger: silentLogger,
    networkNamespace: namedNetworkNamespace(nodes[node]),
    firewall: firewallOf(nodes[node]),
  });
  nodes.planes[node] = plane;
  await plane.replace(config);
  return plane;
}
