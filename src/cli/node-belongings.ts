/** What goes with a Node: as Calico's client does it, whatever names the node in its spec or by its own name. */
import { hasCode, idOf, type ResourceClient, type ResourceId } from './resource-client.ts';

export async function deleteBelongings(client: ResourceClient, node: string): Promise<void> {
  const { resources } = await client.list('WorkloadEndpoint');
  const belongings: ResourceId[] = [
    ...resources.filter(({ spec }) => spec.node === node).map(idOf),
    { kind: 'FelixConfiguration', name: `node.${node}` },
    { kind: 'BGPConfiguration', name: `node.${node}` },
  ];
  for (const id of belongings)
    await client.delete(id).catch((error) => {
      if (!hasCode(error, 'ERR_RESOURCE_NOT_FOUND')) throw error;
    });
}
