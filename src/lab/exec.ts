/** `lab exec`: a command inside one of the lab's hosts, with the terminal and the streams of the caller. */
import { nodeEnvironment } from './agents.ts';
import { runInForeground } from './foreground.ts';
import { type LabContext, requireHost } from './lab.ts';
import { labPaths, namespaceName } from './names.ts';
import { requireLab } from './record.ts';
import { labDatastore } from './store.ts';

/** @returns the command's status; 128 and the signal's number where one ended it, as a shell has it */
export async function execInLab(
  lab: string,
  host: string,
  command: readonly string[],
  context: LabContext,
): Promise<number> {
  const { topology, record } = requireLab(context.labsDirectory, lab);
  requireHost(topology, host);
  const paths = labPaths(context.labsDirectory, lab);
  const datastore = labDatastore(paths, record);
  const isNode = topology.nodes.some((node) => node.name === host);
  const env = isNode
    ? {
        ...context.env,
        ...nodeEnvironment(host, { topology, paths, datastore, env: context.env }),
      }
    : { ...context.env, TORTIE_LAB: lab, TORTIE_DATASTORE: datastore };
  return runInForeground('ip', ['netns', 'exec', namespaceName(lab, host), ...command], env);
}
