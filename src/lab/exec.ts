/** `lab exec`: a command inside one of the lab's hosts, with the terminal and the streams of the caller. */
import { nodeEnvironment } from './agents.ts';
import { runInForeground } from './foreground.ts';
import { type LabContext, requireHost } from './lab.ts';
import { labPaths, namespaceName } from './names.ts';
import { requireLab } from './record.ts';
import { labDatastore } from './store.ts';

/** `ip` ends with 255 for a command that is not there or cannot be run; a shell with 127 and 126, as whoever asks expects. */
const BY_SHELL = ['sh', '-c', 'exec "$@"', 'tortie lab exec'];

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
  const inside = ['netns', 'exec', namespaceName(lab, host), ...BY_SHELL, ...command];
  return runInForeground('ip', inside, env);
}
