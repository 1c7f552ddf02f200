/**
 * The data plane of an agent in its layers: packet threads, frames before them, the fast path before those. The fast
 * path, which is large, is loaded only where it is asked for.
 */
import { type DataPlaneOptions, startDataPlane } from '../agent/data-plane.ts';
import type { DataPlaneSettings } from '../agent/data-plane-settings.ts';
import { type FastDataPlane, withFastPathOff } from '../agent/fast-path-off.ts';
import { withFrames } from '../agent/frame-ways.ts';
import type { PacketThread } from '../agent/packet-threads.ts';
import type { Logger } from '../base/logger.ts';
import type { Ipv4 } from '../ip/ipv4.ts';

/** `warm`: threads that were made early, for the first data plane. `local`: the outer source where it is a flag's. */
export function dataPlaneStarter(
  { transport, sender, queues, fastPath }: DataPlaneSettings,
  warm: readonly PacketThread[],
  logger: Logger,
  local?: Ipv4 | null,
): (parts: DataPlaneOptions) => Promise<FastDataPlane> {
  const usesFastPath = fastPath.mode !== 'off';
  // A verifier's complaint shall name the line of TypeScript, which a bundle's own lines are not.
  if (usesFastPath) process.setSourceMapsEnabled(true);
  let threads: readonly PacketThread[] | undefined = warm;
  return async (parts) => {
    const starting = startDataPlane({ ...parts, sender, queues, threads });
    threads = undefined;
    const source = local === undefined ? {} : { local };
    const plane = await withFrames(await starting, { mode: sender, transport, logger, ...source });
    if (!usesFastPath) return withFastPathOff(plane, fastPath.pinRoot);
    const { withFastPath } = await import('../agent/fast-path-plane.ts');
    return withFastPath(plane, { ...fastPath, transport, logger, ...source });
  };
}
