/** A data plane without the fast path, by what need not be loaded with the fast path's 75 KB. */
import type { DataPlane } from './data-plane.ts';
import { pinDirectory, removePins } from './fast-path-pins.ts';
import { FAST_PATH_OFF, type FastPathState } from './fast-path-state.ts';
import { SENDER_STARTING } from './sender-state.ts';

export interface FastDataPlane extends DataPlane {
  fastPath(): FastPathState;
}

/** What an earlier process pinned for the device would go on before a plane that knows nothing of it. */
export function withFastPathOff(plane: DataPlane, root: string): FastDataPlane {
  removePins(pinDirectory(root, plane.device.name));
  return withoutFastPath(plane, FAST_PATH_OFF);
}

/** `state` says why there is none. */
export function withoutFastPath(plane: DataPlane, state: FastPathState): FastDataPlane {
  return {
    device: plane.device,
    get revision() {
      return plane.revision;
    },
    replace: (config) => plane.replace(config),
    change: (change) => plane.change(change),
    counters: () => plane.counters(),
    icmpErrors: () => plane.icmpErrors(),
    peers: () => plane.peers(),
    sender: () => plane.sender?.() ?? SENDER_STARTING,
    queues: () => plane.queues?.() ?? [],
    stop: () => plane.stop(),
    fastPath: () => state,
  };
}
