/** `tortie tunnel run`: the composition root of a device without a datastore. */
import { parseTunnelOptions, type TunnelRunFlags } from '../../agent/tunnel-options.ts';
import { systemClock } from '../../base/clock.ts';
import { CAPABILITY, keepOnlyCapabilities } from '../../io/capabilities.ts';

export async function tunnelRun(flags: TunnelRunFlags & { readonly logLevel: string }): Promise<number> {
  const options = parseTunnelOptions(flags, process.env);
  // Before anything is opened: this process is replaced by one that may do no more than it needs.
  const fastPath = options.fastPath === 'off' ? [] : [CAPABILITY.BPF];
  keepOnlyCapabilities([CAPABILITY.NET_ADMIN, CAPABILITY.NET_RAW, ...fastPath]);
  // Loaded now, so that it is loaded once.
  const { createLogger } = await import('../../agent/log.ts');
  const { startDataPlane } = await import('../../agent/data-plane.ts');
  // A verifier's complaint shall name the line of TypeScript, which a bundle's own lines are not.
  if (options.fastPath !== 'off') process.setSourceMapsEnabled(true);
  const { withFastPath } = await import('../../agent/fast-path-plane.ts');
  const { runTunnel } = await import('../../agent/tunnel.ts');
  const logger = createLogger(flags.logLevel, { tunnel: options.device });
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.once(name, () => stop.abort(new Error(`got ${name}`)));
  const startFastDataPlane: typeof startDataPlane = async (parts) =>
    withFastPath(await startDataPlane(parts), {
      mode: options.fastPath,
      transport: options.transport,
      logger,
    });
  await runTunnel(options, { clock: systemClock, logger, startDataPlane: startFastDataPlane }, stop.signal);
  logger.info({}, 'the tunnel has stopped; its device and the routes on it stay');
  return 0;
}
