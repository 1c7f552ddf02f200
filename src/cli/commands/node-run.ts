/** `tortie node run`: the composition root of a node's agent as a process. */
import { pinDirectory, removePins, requirePinRoot } from '../../agent/fast-path-pins.ts';
import { type NodeRunFlags, parseAgentOptions } from '../../agent/options.ts';
import { systemClock } from '../../base/clock.ts';
import { systemRandom } from '../../base/random.ts';
import { keepAgentCapabilities } from '../agent-capabilities.ts';

interface NodeRunOptions extends NodeRunFlags {
  readonly datastore?: string;
  readonly config?: string;
  readonly logLevel: string;
  readonly cleanup?: true;
}

export async function nodeRun(flags: NodeRunOptions): Promise<number> {
  const options = parseAgentOptions(flags, process.env);
  if (flags.cleanup) return cleanUpHost(options);
  if (options.fastPath.pin) requirePinRoot(options.fastPath.pinRoot);
  // Before anything is opened: this process is replaced by one that may do no more than it needs.
  keepAgentCapabilities(options.fastPath.mode !== 'off');
  // Loaded now, so that it is loaded once; the packet threads warm up meanwhile, for the first data plane.
  const { newPacketThreads } = await import('../../agent/packet-threads.ts');
  const warm = newPacketThreads(options.transport, options.queues);
  const { createLogger } = await import('../../agent/log.ts');
  const { runNodeAgent } = await import('../../agent/node-agent.ts');
  const { createAddressAllocator } = await import('../../control/address-allocator.ts');
  const { dataPlaneStarter } = await import('../agent-data-plane.ts');
  const { openFromOptions } = await import('../datastore-options.ts');
  const logger = createLogger(flags.logLevel, { node: options.node });
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.once(name, () => stop.abort(new Error(`got ${name}`)));
  await runNodeAgent(
    options,
    {
      clock: systemClock,
      logger,
      openDatastore: () => openFromOptions(flags, process.env),
      startDataPlane: dataPlaneStarter(options, warm, logger),
      createAllocator: (store) =>
        createAddressAllocator({ store, clock: systemClock, random: systemRandom, logger }),
    },
    stop.signal,
  );
  logger.info({}, 'the agent has stopped; its device and routes stay');
  return 0;
}

async function cleanUpHost(options: ReturnType<typeof parseAgentOptions>): Promise<number> {
  const { cleanUp } = await import('../../host/cleanup.ts');
  const { sysctlMemory } = await import('../../agent/node-agent.ts');
  const pins = removePins(pinDirectory(options.fastPath.pinRoot, options.device));
  const removed = [
    ...(pins > 0 ? [`${pins} pins of the fast path`] : []),
    ...(await cleanUp(options.device, sysctlMemory(options))),
  ];
  for (const line of removed) process.stderr.write(`Removed ${line}\n`);
  if (!removed.length) process.stderr.write('Nothing of ours was there\n');
  return 0;
}
