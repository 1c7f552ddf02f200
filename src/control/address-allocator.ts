/** Addresses from IPAM: what the agent and the commands ask for. */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Prefix } from '../ip/prefix.ts';

export interface AssignRequest {
  readonly node: string;
  readonly handle: string;
  /** Stored with the address; `node` is always added. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Default: Workload. */
  readonly use?: 'Workload' | 'Tunnel';
  /** This one and no other. */
  readonly address?: Ipv4;
  /** Names of the pools to take from; default: every pool that the node may take from by itself. */
  readonly pools?: readonly string[];
}

export interface Assignment {
  readonly address: Ipv4;
  readonly block: Prefix;
}

export interface AddressAllocator {
  /**
   * The tunnel address of a node: the one it has if that is still right, else a new one, its old ones released.
   * null where no pool may give one (nothing is held then). Idempotent: call it at every change of a pool or of
   * the node. Writing it into the Node resource is the caller's.
   */
  assignTunnelAddress(node: string): Promise<Ipv4 | null>;
  releaseTunnelAddress(node: string): Promise<void>;
  /** @throws InvalidError or FailedError that says why there is no address */
  assign(request: AssignRequest): Promise<Assignment>;
  /** Gives the addresses that were released; none where the handle is unknown. */
  releaseByHandle(handle: string): Promise<readonly Ipv4[]>;
  /** false where the address was not assigned. */
  releaseAddress(address: Ipv4): Promise<boolean>;
  /** Releases the node's affinities, all of them or those to empty blocks; blocks in use become nobody's. */
  releaseAffinities(node: string, which: 'empty' | 'all'): Promise<void>;
  /** All that a deleted node held: its workloads' addresses, its tunnel address, its affinities. */
  releaseNode(node: string): Promise<void>;
}
