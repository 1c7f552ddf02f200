/** A data plane with the fast path before it: one sink, one set of counters. */
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import {
  addressBytes,
  CELL_FIRST_REASON,
  CELL_IN_BYTES,
  CELL_OUT_BYTES,
  CELL_PACKETS,
  CELL_SUPERPACKETS,
  PEER_IN_BYTES,
  PEER_IN_PACKETS,
  PEER_OUT_BYTES,
  PEER_OUT_PACKETS,
  reasonsOf,
} from '../ebpf/layout.ts';
import { inNetworkNamespace } from '../io/netns.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import type { DataPlane, PeerCounters } from './data-plane.ts';
import { type FastPath, startFastPath } from './fast-path.ts';
import { type FastDataPlane, withFastPathOff, withoutFastPath } from './fast-path-off.ts';
import { pinDirectory, pinRoot, removePins } from './fast-path-pins.ts';
import {
  FAST_DIRECTIONS,
  type FastDirection,
  type FastPathMode,
  type FastPathState,
} from './fast-path-state.ts';
import { type FirewallQuestion, hostFirewall } from './firewall-judge.ts';
import { SENDER_STARTING, type SenderState } from './sender-state.ts';

/**
 * Tries to put the fast path before `plane`. Where it cannot run, `auto` leaves the plane as it is and says why in
 * one line; `ebpf` stops the plane and throws.
 */
export async function withFastPath(
  plane: DataPlane,
  options: {
    readonly mode: FastPathMode;
    readonly transport: 'ipip' | 'udp' | 'auto';
    readonly logger: Logger;
    readonly networkNamespace?: string;
    readonly firewall?: FirewallQuestion['firewall'];
    /** The outer source where it is fixed. */
    readonly local?: Ipv4 | null;
    /** Whether it goes on when the process is gone; what is pinned for the device and not asked for is taken away. */
    readonly pin?: boolean;
    readonly pinRoot?: string;
  },
): Promise<FastDataPlane> {
  const { mode, logger, networkNamespace } = options;
  const enter = <T>(fn: () => T): T =>
    networkNamespace === undefined ? fn() : inNetworkNamespace(networkNamespace, fn);
  const root = options.pinRoot ?? pinRoot(process.env);
  const unpin = () => removePins(enter(() => pinDirectory(root, plane.device.name)));
  if (mode === 'off') return enter(() => withFastPathOff(plane, root));
  try {
    if (options.transport === 'udp')
      throw new UnavailableError('ERR_EBPF', 'the fast path carries protocol 4 only, not the udp transport', {
        hint: 'use --transport ipip or auto',
      });
    const fast = await startFastPath({
      mode,
      device: plane.device,
      logger,
      firewall: options.firewall ?? hostFirewall(plane.device.name),
      icmpErrors: () => plane.icmpErrors(),
      pathMtus: () => plane.peers(),
      enter,
      local: options.local ?? null,
      pinRoot: root,
      pin: options.pin ?? false,
    });
    return new CombinedDataPlane(plane, fast);
  } catch (error) {
    const why = (error as Error).message;
    unpin();
    if (mode === 'ebpf') {
      await plane.stop();
      throw error instanceof UnavailableError
        ? error
        : new UnavailableError('ERR_EBPF', `--fast-path ebpf cannot run here: ${why}`, {
            hint: 'use --fast-path auto, which falls back to the slow path',
            cause: error,
          });
    }
    logger.info({}, `the slow path carries all: ${why}`);
    return withoutFastPath(plane, { outbound: why, inbound: why });
  }
}

class CombinedDataPlane implements FastDataPlane {
  readonly device: DataPlane['device'];
  readonly #plane: DataPlane;
  readonly #fast: FastPath;
  /** What the fast path had carried when it stopped. */
  #last: Readonly<Record<FastDirection, readonly number[]>> | undefined;

  constructor(plane: DataPlane, fast: FastPath) {
    this.device = plane.device;
    this.#plane = plane;
    this.#fast = fast;
  }

  get revision(): number {
    return this.#plane.revision;
  }

  async replace(config: Parameters<DataPlane['replace']>[0]): Promise<void> {
    await this.#plane.replace(config);
    this.#fast.replace(config);
  }

  async change(change: Parameters<DataPlane['change']>[0]): Promise<'applied' | 'gap'> {
    const result = await this.#plane.change(change);
    if (result === 'applied') this.#fast.change(change);
    return result;
  }

  fastPath(): FastPathState {
    return this.#fast.state();
  }

  sender(): SenderState {
    return this.#plane.sender?.() ?? SENDER_STARTING;
  }

  queues(): readonly number[] {
    return this.#plane.queues?.() ?? [];
  }

  /** What the fast path carried went in and out; why packets took the slow path is in `note_slow_…`. */
  icmpErrors(): number {
    return this.#plane.icmpErrors();
  }

  counters(): Record<string, number> {
    const counters = this.#plane.counters();
    for (const direction of FAST_DIRECTIONS) {
      const [entry, exit] = direction === 'outbound' ? ['device', 'underlay'] : ['underlay', 'device'];
      const cells = this.#last?.[direction] ?? this.#fast.maps.totals(direction);
      const add = (name: string, amount: number) => {
        counters[`${direction}_${name}`] = (counters[`${direction}_${name}`] ?? 0) + amount;
      };
      add(`in_${entry}_packets`, cells[CELL_PACKETS]!);
      add(`in_${entry}_bytes`, cells[CELL_IN_BYTES]!);
      add(`in_${entry}_superpackets`, cells[CELL_SUPERPACKETS]!);
      add(`out_${exit}_packets`, cells[CELL_PACKETS]!);
      add(`out_${exit}_bytes`, cells[CELL_OUT_BYTES]!);
      add('note_fast_packets', cells[CELL_PACKETS]!);
      add('note_fast_mendings', this.#fast.timesMended(direction));
      reasonsOf(direction).forEach((reason, i) => {
        add(`note_slow_${reason}_packets`, cells[CELL_FIRST_REASON + i]!);
      });
    }
    return counters;
  }

  peers(): readonly PeerCounters[] {
    if (this.#last) return this.#plane.peers();
    return this.#plane.peers().map((peer) => {
      const cells = this.#fast.maps.peer(addressBytes(peer.address));
      return {
        ...peer,
        outboundPackets: peer.outboundPackets + cells[PEER_OUT_PACKETS]!,
        outboundBytes: peer.outboundBytes + cells[PEER_OUT_BYTES]!,
        inboundPackets: peer.inboundPackets + cells[PEER_IN_PACKETS]!,
        inboundBytes: peer.inboundBytes + cells[PEER_IN_BYTES]!,
      };
    });
  }

  async stop(): Promise<void> {
    if (this.#last) return;
    this.#last = { outbound: this.#fast.maps.totals('outbound'), inbound: this.#fast.maps.totals('inbound') };
    this.#fast.stop();
    await this.#plane.stop();
  }
}
