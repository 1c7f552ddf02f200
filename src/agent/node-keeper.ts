/**
 * Keeps what only the agent knows in the Node resource: its tunnel address (from IPAM, following the pools) and
 * the annotation that says where it takes UDP. An `apply` of the Node resource takes both away; they come back.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { AddressAllocator } from '../control/address-allocator.ts';
import {
  type ClusterView,
  TRANSPORT_ANNOTATION,
  UDP_PORT_ANNOTATION,
  type ViewChange,
} from '../control/cluster-view.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { resourceKey } from '../model/keys.ts';
import { isPlainObject, type PlainObject, rewriteStored } from '../model/rewrite.ts';
import { ConflictError, type Datastore, NotFoundError } from '../store/datastore.ts';

/** Wait before trying again after a failure, at most; it doubles from a tenth of this. */
const RETRY_MS = 5_000;

export interface NodeKeeperOptions {
  readonly node: string;
  /** null: the node does not take the `udp` transport. */
  readonly udpPort: number | null;
  /** Whether it takes protocol 4, which a node does that says nothing. */
  readonly takesIpip: boolean;
  readonly store: Datastore;
  readonly allocator: AddressAllocator;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told what IPAM assigned, before it stands in the resource. */
  readonly onTunnelAddress: (address: Ipv4 | null) => void;
}

export class NodeKeeper {
  readonly #o: NodeKeeperOptions;
  #wanted = false;
  #locked = false;
  #wake: () => void = () => {};

  constructor(options: NodeKeeperOptions) {
    this.#o = options;
  }

  /** To be told of every change of the view; reacts to those of pools and of its own node. */
  onView(view: ClusterView, changes: readonly ViewChange[] | 'resync'): void {
    const matters =
      changes === 'resync' ||
      changes.some(
        (c) => c.type === 'pools' || c.type === 'cluster' || (c.type === 'node' && c.key === this.#o.node),
      );
    this.#locked = !view.datastoreReady;
    if (!matters) return;
    this.#wanted = true;
    this.#wake();
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    let waitMs = RETRY_MS / 10;
    while (!signal.aborted) {
      await this.#untilWanted(signal);
      if (signal.aborted) return;
      this.#wanted = false;
      try {
        await this.#keep();
        waitMs = RETRY_MS / 10;
      } catch (error) {
        this.#o.logger.warn(
          { reason: (error as Error).message },
          'keeping the Node resource failed; it is tried again',
        );
        this.#wanted = true;
        await this.#o.clock.sleep(waitMs, signal).catch(() => {});
        waitMs = Math.min(RETRY_MS, waitMs * 2);
      }
    }
  }

  #untilWanted(signal: AbortSignal): Promise<void> {
    if (this.#wanted || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  async #keep(): Promise<void> {
    // The change that unlocks the cluster is told, and wakes it.
    if (this.#locked) return;
    const { store, node, allocator } = this.#o;
    const key = resourceKey('Node', node);
    // A deleted Node stays deleted until the agent is started again, and IPAM gives nothing to a node that is not there.
    if (!(await store.get(key))) return;
    await allocator.settleAffinities(node);
    const tunnelAddress = await allocator.assignTunnelAddress(node);
    this.#o.onTunnelAddress(tunnelAddress);
    for (;;) {
      const entry = await store.get(key);
      if (!entry) return;
      const value = rewriteStored(entry.value, (object) => this.#complete(object, tunnelAddress));
      if (value === entry.value) return;
      try {
        await store.update(key, value, entry.revision);
        this.#o.logger.info(
          { tunnelAddress: tunnelAddress === null ? null : formatIpv4(tunnelAddress) },
          'wrote what this agent knows into its Node resource',
        );
        return;
      } catch (error) {
        if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
      }
    }
  }

  #complete(node: PlainObject, tunnelAddress: Ipv4 | null): PlainObject {
    const spec = { ...(isPlainObject(node.spec) ? node.spec : {}) };
    const bgp = { ...(isPlainObject(spec.bgp) ? spec.bgp : {}) };
    if (tunnelAddress === null) delete bgp.ipv4IPIPTunnelAddr;
    else bgp.ipv4IPIPTunnelAddr = formatIpv4(tunnelAddress);
    // A `bgp` that is there but empty is invalid to Calico.
    if (Object.keys(bgp).length) spec.bgp = bgp;
    else delete spec.bgp;
    const metadata = { ...(isPlainObject(node.metadata) ? node.metadata : {}) };
    const annotations = { ...(isPlainObject(metadata.annotations) ? metadata.annotations : {}) };
    if (this.#o.udpPort === null) delete annotations[UDP_PORT_ANNOTATION];
    else annotations[UDP_PORT_ANNOTATION] = String(this.#o.udpPort);
    if (this.#o.takesIpip) delete annotations[TRANSPORT_ANNOTATION];
    else annotations[TRANSPORT_ANNOTATION] = 'udp';
    if (Object.keys(annotations).length) metadata.annotations = annotations;
    else delete metadata.annotations;
    return { ...node, metadata, spec };
  }
}
