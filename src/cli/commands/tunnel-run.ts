/** `tortie tunnel run`: the composition root of a device without a datastore. */
import { pinDirectory, removePins, requirePinRoot } from '../../agent/fast-path-pins.ts';
import { removeGuards } from '../../agent/route-guard.ts';
import { requireUnserved } from '../../agent/tunnel-lock.ts';
import {
  parseTunnelOptions,
  type TunnelOptions,
  type TunnelRunFlags,
  tunnelGuardFile,
} from '../../agent/tunnel-options.ts';
import { systemClock } from '../../base/clock.ts';
import { notifyServiceManager } from '../../io/service-notify.ts';
import { keepAgentCapabilities } from '../agent-capabilities.ts';

interface Flags extends TunnelRunFlags {
  readonly logLevel: string;
  readonly cleanup?: true;
}

export async function tunnelRun(flags: Flags): Promise<number> {
  const options = parseTunnelOptions(flags, process.env);
  const { fastPath } = options;
  if (flags.cleanup) return cleanUp(options);
  if (fastPath.pin) requirePinRoot(fastPath.pinRoot);
  // Before anything is opened: this process is replaced by one that may do no more than it needs.
  keepAgentCapabilities(fastPath.mode !== 'off');
  // Loaded now, so that it is loaded once; the packet threads warm up meanwhile, for the first data plane.
  const { newPacketThreads } = await import('../../agent/packet-threads.ts');
  const warm = newPacketThreads(options.transport, options.queues);
  const { createLogger } = await import('../../agent/log.ts');
  const { dataPlaneStarter } = await import('../agent-data-plane.ts');
  const { runTunnel } = await import('../../agent/tunnel.ts');
  const logger = createLogger(flags.logLevel, { tunnel: options.device });
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.once(name, () => stop.abort(new Error(`got ${name}`)));
  const startDataPlane = dataPlaneStarter(options, warm, logger, options.local);
  const ready = () => void notifyServiceManager('READY=1', process.env);
  await runTunnel(options, { clock: systemClock, logger, startDataPlane, ready }, stop.signal);
  logger.info({}, 'the tunnel has stopped; its device and the routes on it stay');
  return 0;
}

/** What is there for the time when nobody serves the device. */
function cleanUp({ device, runDirectory, fastPath }: TunnelOptions): number {
  requireUnserved(runDirectory, device);
  const pins = removePins(pinDirectory(fastPath.pinRoot, device));
  const guards = removeGuards(tunnelGuardFile(runDirectory, device));
  if (pins > 0) process.stderr.write(`Removed ${pins} pins of the fast path\n`);
  if (guards > 0) process.stderr.write(`Removed ${guards} guard routes\n`);
  if (pins + guards === 0) process.stderr.write('Nothing of ours was pinned or guarded\n');
  return 0;
}
