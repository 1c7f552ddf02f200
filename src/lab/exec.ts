/** `lab exec`: a command inside one of the lab's hosts, with the terminal and the streams of the caller. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { nodeEnvironment } from './agents.ts';
import { type LabContext, requireHost } from './lab.ts';
import { labPaths, namespaceName } from './names.ts';
import { requireLab } from './record.ts';
import { labDatastore } from './store.ts';

/** Meant for us alone, so they are passed on. */
const PASSED_SIGNALS = ['SIGTERM', 'SIGHUP'] as const;
/** From a terminal: the command has had them too, and we outlive it to tell its status. */
const AWAITED_SIGNALS = ['SIGINT', 'SIGQUIT'] as const;

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
  const child = spawn('ip', ['netns', 'exec', namespaceName(lab, host), ...command], {
    stdio: 'inherit',
    env,
  });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  const wait = () => {};
  for (const signal of PASSED_SIGNALS) process.on(signal, pass);
  for (const signal of AWAITED_SIGNALS) process.on(signal, wait);
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ? 128 + constants.signals[signal] : (code ?? 1)));
    });
  } finally {
    for (const signal of PASSED_SIGNALS) process.off(signal, pass);
    for (const signal of AWAITED_SIGNALS) process.off(signal, wait);
  }
}
