/**
 * Addresses from IPAM: what the agent and the commands ask for. Theory of operation of an allocation:
 *   1. the pools that the node may take from (ipam/pools.ts) are read, and the addresses that are kept out;
 *   2. the node's own blocks are tried in the order of their keys;
 *   3. then new blocks are claimed (block-claims.ts), up to 20 a node unless configured otherwise;
 *   4. then, unless affinity is strict, other nodes' blocks are borrowed from.
 * One block is used by `assignFrom`: the handle counts first, then the block is written by compare-and-swap. On a
 * conflict the count is taken back and the block is read again. A process that dies in between leaves a count
 * too many, never an address that no handle knows.
 */
import { FailedError } from '../base/errors.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { type Prefix, prefixCovers, prefixOf } from '../ip/prefix.ts';
import {
  holderOf,
  isEmpty,
  type Released,
  type Reserved,
  releaseFromBlock,
  takeAddress,
  takeFromBlock,
} from '../ipam/block.ts';
import { blocksInOrder } from '../ipam/block-order.ts';
import { decremented, EMPTY_HANDLE, incremented } from '../ipam/handle.ts';
import { type AllocationPool, poolOf, reservedBy, type Use } from '../ipam/pools.ts';
import { allocationsOf, blockOwner } from '../model/ipam-values.ts';
import { blockKey, IPAM_BLOCKS, parseKey } from '../model/keys.ts';
import type { IpamAttributes, IpamBlock, IpamConfig, Node } from '../model/resources.ts';
import { ConflictError, type Revision } from '../store/datastore.ts';
import { automaticPools, inUse, notInPool, requestedPools, strictlyAnothers } from './allocation-limits.ts';
import { claimBlock, ownBlock, releaseBlock } from './block-claims.ts';
import { IpamStore, type IpamStoreOptions, IpamValueError, isConflict, type Stored } from './ipam-store.ts';
import { TunnelAddresses } from './tunnel-address.ts';

export interface AssignRequest {
  readonly node: string;
  readonly handle: string;
  /** Stored with the address; `node` is always added. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Default: Workload. */
  readonly use?: Use;
  /** This one and no other. */
  readonly address?: Ipv4;
  /** Names of the pools to take from; default: every pool that the node may take from by itself. */
  readonly pools?: readonly string[];
}

export interface Assignment {
  readonly address: Ipv4;
  readonly block: Prefix;
}

export interface HeldAddress extends Assignment {
  readonly attributes: IpamAttributes;
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
  /** Up to `count` addresses for one handle; fewer where there are no more. */
  assignMany(request: AssignRequest, count: number): Promise<readonly Assignment[]>;
  /** What a handle holds now. */
  held(handle: string): Promise<readonly HeldAddress[]>;
  /** Gives the addresses that were released; none where the handle is unknown. */
  releaseByHandle(handle: string): Promise<readonly Ipv4[]>;
  /** false where the address was not assigned. */
  releaseAddress(address: Ipv4): Promise<boolean>;
  /** Who holds an address; undefined where it is free. */
  holder(address: Ipv4): Promise<IpamAttributes | undefined>;
  /** Releases the node's affinities, all of them or those to empty blocks; blocks in use become nobody's. */
  releaseAffinities(node: string, which: 'empty' | 'all'): Promise<void>;
  /** Releases every node's affinities in a pool that is about to go. */
  releasePoolAffinities(pool: Prefix): Promise<void>;
  /** All that a deleted node held: its workloads' addresses, its tunnel address, its affinities. */
  releaseNode(node: string): Promise<void>;
}

export function createAddressAllocator(options: IpamStoreOptions): AddressAllocator {
  return new Allocator(new IpamStore(options));
}

/** Where Calico's own limit stands when the configuration has none. */
const DEFAULT_MAX_BLOCKS_PER_NODE = 20;
/** Candidates looked at one by one before the list of all blocks is read. */
const PROBES = 16;

/** What one allocation wants, and from where. */
interface Plan {
  readonly node: string;
  readonly handle: string;
  readonly attributes: IpamAttributes;
  readonly pools: readonly AllocationPool[];
  readonly reserved: Reserved;
  readonly config: IpamConfig;
}

class Allocator implements AddressAllocator {
  readonly #ipam: IpamStore;
  readonly #tunnels: TunnelAddresses;

  constructor(ipam: IpamStore) {
    this.#ipam = ipam;
    this.#tunnels = new TunnelAddresses(ipam, this);
  }

  assignTunnelAddress(node: string): Promise<Ipv4 | null> {
    return this.#tunnels.assign(node);
  }

  async releaseTunnelAddress(node: string): Promise<void> {
    await this.#tunnels.release(node);
  }

  async assign(request: AssignRequest): Promise<Assignment> {
    if (request.address !== undefined) return this.#assignAddress(request, request.address);
    const [assignment] = await this.assignMany(request, 1);
    if (assignment) return assignment;
    throw await this.#exhausted(request.node);
  }

  async assignMany(request: AssignRequest, count: number): Promise<readonly Assignment[]> {
    const plan = await this.#plan(request);
    const found = await this.#fromOwnBlocks(plan, count);
    if (found.length < count) found.push(...(await this.#fromNewBlocks(plan, count - found.length)));
    if (found.length < count && !plan.config.strict_affinity)
      found.push(...(await this.#borrowed(plan, count - found.length)));
    return found;
  }

  async #plan(request: AssignRequest): Promise<Plan> {
    const { node, handle, use = 'Workload' } = request;
    const [config, resource, pools, reservations] = await Promise.all([
      this.#ipam.config({ create: true }),
      this.#requireNode(node),
      this.#ipam.resources('IPPool'),
      this.#ipam.resources('IPReservation'),
    ]);
    return {
      node,
      handle,
      attributes: attributesFor(request),
      pools: request.pools ? requestedPools(pools, request.pools, use) : automaticPools(pools, resource, use),
      reserved: reservedBy(reservations),
      config,
    };
  }

  async #requireNode(node: string): Promise<Node> {
    const resource = await this.#ipam.resource('Node', node);
    if (resource) return resource;
    throw new FailedError('ERR_NO_SUCH_NODE', `there is no Node ${node}: addresses are given to nodes only`, {
      hint: `start its agent (\`tortie node run --name ${node}\`) or apply a Node of that name`,
    });
  }

  async #fromOwnBlocks(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    for (const { block, value } of await this.#ipam.affinities(plan.node)) {
      if (found.length >= count) break;
      if (!inPools(plan.pools, block)) continue;
      // The usual case needs no second look at the affinity: assignFrom sees in the block whose it is.
      if (value.state !== 'confirmed' || !(await this.#isOwn(plan.node, block))) {
        if (!(await this.#usable(() => ownBlock(this.#ipam, plan.node, block)))) continue;
      }
      found.push(...(await this.#assignFrom(plan, block, count - found.length, 'own')));
    }
    return found;
  }

  async #isOwn(node: string, block: Prefix): Promise<boolean> {
    const stored = await this.#usable(() => this.#ipam.block(block));
    return stored !== undefined && blockOwner(stored.value) === node;
  }

  /** A block that cannot be read is nobody's to assign from; it is reported and left alone. */
  async #usable(read: () => Promise<Stored<IpamBlock> | undefined>): Promise<Stored<IpamBlock> | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof IpamValueError)) throw error;
      this.#ipam.logger.warn({ problem: error.message }, 'a block is left alone');
      return undefined;
    }
  }

  async #fromNewBlocks(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    if (!plan.config.auto_allocate_blocks) return found;
    const limit = plan.config.maxBlocksPerHost || DEFAULT_MAX_BLOCKS_PER_NODE;
    let owned = (await this.#ipam.affinities(plan.node)).length;
    for await (const block of this.#freeBlocks(plan)) {
      if (owned >= limit) break;
      const claimed = await this.#usable(() => claimBlock(this.#ipam, plan.node, block));
      if (!claimed) continue;
      owned++;
      found.push(...(await this.#assignFrom(plan, block, count - found.length, 'own')));
      if (found.length >= count) break;
    }
    return found;
  }

  /** Blocks that nobody has, as far as is known when each is given. */
  async *#freeBlocks(plan: Plan): AsyncGenerator<Prefix> {
    let probes = 0;
    let taken: ReadonlySet<number> | undefined;
    for (const pool of plan.pools) {
      for (const block of blocksInOrder(pool.prefix, pool.blockLength, plan.node)) {
        if (wholly(block, plan.reserved)) continue;
        if (++probes > PROBES) taken ??= await this.#takenBlocks();
        if (taken?.has(block.address)) continue;
        if (taken || (await this.#isFree(plan.node, block))) yield block;
      }
    }
  }

  /** Also true of a block that a dead process left as ours without an affinity. */
  async #isFree(node: string, block: Prefix): Promise<boolean> {
    try {
      const stored = await this.#ipam.block(block);
      if (!stored) return true;
      return blockOwner(stored.value) === node && !(await this.#ipam.affinity(node, block));
    } catch (error) {
      if (error instanceof IpamValueError) return false;
      throw error;
    }
  }

  async #takenBlocks(): Promise<ReadonlySet<number>> {
    return new Set((await this.#ipam.blockPrefixes()).map((block) => block.address));
  }

  async #borrowed(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    const blocks = await this.#ipam.blocks();
    for (const { prefix, value } of blocks) {
      if (found.length >= count) break;
      if (!inPools(plan.pools, prefix) || value.unallocated.length === 0) continue;
      found.push(...(await this.#assignFrom(plan, prefix, count - found.length, 'any')));
    }
    return found;
  }

  async #assignFrom(
    plan: Plan,
    block: Prefix,
    count: number,
    owner: 'own' | 'any',
  ): Promise<readonly Assignment[]> {
    const addresses = await this.#ipam.retry(`assigning an address to ${plan.handle}`, async () => {
      const stored = await this.#usable(() => this.#ipam.block(block));
      if (!stored || (owner === 'own' && blockOwner(stored.value) !== plan.node)) return [];
      const taken = takeFromBlock(stored.value, count, plan.attributes, plan.reserved);
      if (taken.addresses.length > 0)
        await this.#counted(plan.handle, stored.value.cidr, taken.addresses.length, () =>
          this.#ipam.updateBlock(block, taken.block, stored.revision),
        );
      return taken.addresses;
    });
    return addresses.map((address) => ({ address, block }));
  }

  /** Counts first and takes the count back where the write met a conflict. */
  async #counted(handle: string, cidr: string, count: number, write: () => Promise<unknown>): Promise<void> {
    await this.#ipam.changeHandle(handle, (old) => incremented(old ?? EMPTY_HANDLE, cidr, count));
    try {
      await write();
    } catch (error) {
      // Where the datastore went away nobody knows whether the block was written: better a count too many.
      if (isConflict(error)) await this.#uncount(handle, cidr, count);
      throw error;
    }
  }

  #uncount(handle: string, cidr: string, count: number): Promise<void> {
    return this.#ipam.changeHandle(handle, (old) => old && decremented(old, cidr, count));
  }

  async #assignAddress(request: AssignRequest, address: Ipv4): Promise<Assignment> {
    const [config, pools] = await Promise.all([
      this.#ipam.config({ create: true }),
      this.#ipam.resources('IPPool'),
      this.#requireNode(request.node),
    ]);
    const pool = poolOf(pools, address);
    if (!pool) throw notInPool(address, pools);
    const block = prefixOf(address, pool.blockLength);
    await this.#ipam.retry(`assigning ${formatIpv4(address)}`, async () => {
      const stored = (await this.#ipam.block(block)) ?? (await claimBlock(this.#ipam, request.node, block));
      // Somebody else claimed it this moment.
      if (!stored) throw new ConflictError(blockKey(block), '0' as Revision);
      if (config.strict_affinity && blockOwner(stored.value) !== request.node)
        throw strictlyAnothers(address, stored.value);
      const taken = takeAddress(stored.value, address, attributesFor(request));
      if (!taken) throw inUse(address, holderOf(stored.value, address));
      return this.#counted(request.handle, stored.value.cidr, 1, () =>
        this.#ipam.updateBlock(block, taken, stored.revision),
      );
    });
    return { address, block };
  }

  async held(handle: string): Promise<readonly HeldAddress[]> {
    const found: HeldAddress[] = [];
    for (const block of await this.#blocksOf(handle)) {
      const stored = await this.#ipam.block(block);
      const mine = stored ? allocationsOf(stored.value) : [];
      found.push(
        ...mine
          .filter(({ attributes }) => attributes.handle_id === handle)
          .map(({ address, attributes }) => ({ address, block, attributes })),
      );
    }
    return found;
  }

  async #blocksOf(handle: string): Promise<Prefix[]> {
    const stored = await this.#ipam.handle(handle);
    return Object.keys(stored?.value.block ?? {}).flatMap((cidr) => {
      const parsed = parseKey(`${IPAM_BLOCKS}${cidr.replace('/', '-')}`);
      return parsed?.type === 'block' ? [parsed.block] : [];
    });
  }

  async releaseByHandle(handle: string): Promise<readonly Ipv4[]> {
    const addresses: Ipv4[] = [];
    for (const block of await this.#blocksOf(handle))
      addresses.push(
        ...(await this.#release(block, (_address, attributes) => attributes.handle_id === handle)),
      );
    return addresses;
  }

  async releaseAddress(address: Ipv4): Promise<boolean> {
    const block = await this.#blockOf(address);
    if (!block) return false;
    return (await this.#release(block, (other) => other === address)).length > 0;
  }

  async holder(address: Ipv4): Promise<IpamAttributes | undefined> {
    const block = await this.#blockOf(address);
    const stored = block && (await this.#ipam.block(block));
    return stored && holderOf(stored.value, address);
  }

  /** Its pool says how large the block is; where the pool is gone, its block may still be there. */
  async #blockOf(address: Ipv4): Promise<Prefix | undefined> {
    const pools = await this.#ipam.resources('IPPool');
    const pool = poolOf(
      pools.map((pool) => ({ ...pool, spec: { ...pool.spec, disabled: false } })),
      address,
    );
    if (pool) return prefixOf(address, pool.blockLength);
    const blocks = await this.#ipam.blockPrefixes();
    return blocks.find((block) => prefixOf(address, block.length).address === block.address);
  }

  async #release(
    block: Prefix,
    which: (address: Ipv4, attributes: IpamAttributes) => boolean,
  ): Promise<readonly Ipv4[]> {
    const released = await this.#ipam.retry('releasing an address', async () => {
      const stored = await this.#ipam.block(block);
      const after = stored && releaseFromBlock(stored.value, which);
      if (!stored || !after) return undefined;
      // A block that is nobody's lives only for its addresses.
      if (after.block.affinity === null && isEmpty(after.block))
        await this.#ipam.deleteBlock(block, stored.revision);
      else await this.#ipam.updateBlock(block, after.block, stored.revision);
      return after;
    });
    if (released) await this.#uncountAll(released);
    return released?.addresses ?? [];
  }

  async #uncountAll({ block, handles }: Released): Promise<void> {
    for (const [handle, count] of handles) await this.#uncount(handle, block.cidr, count);
  }

  async releaseAffinities(node: string, which: 'empty' | 'all'): Promise<void> {
    for (const { block } of await this.#ipam.affinities(node))
      await releaseBlock(this.#ipam, node, block, which);
  }

  async releasePoolAffinities(pool: Prefix): Promise<void> {
    for (const { node, block } of await this.#ipam.affinities())
      if (prefixCovers(pool, block)) await releaseBlock(this.#ipam, node, block, 'all');
  }

  async releaseNode(node: string): Promise<void> {
    for (const { prefix, value } of await this.#ipam.blocks()) {
      const mine = (attributes: IpamAttributes) => attributes.secondary?.node === node;
      if (value.attributes.some(mine))
        await this.#release(prefix, (_address, attributes) => mine(attributes));
    }
    await this.releaseAffinities(node, 'all');
  }

  async #exhausted(node: string): Promise<FailedError> {
    const config = await this.#ipam.config();
    const why = config.strict_affinity ? '; strict affinity forbids to borrow from other nodes' : '';
    return new FailedError('ERR_NO_FREE_ADDRESS', `there is no free address for node ${node}${why}`, {
      hint: '`tortie ipam show --show-blocks` shows what is in use; another pool gives more',
    });
  }
}

function attributesFor({ node, handle, attributes }: AssignRequest): IpamAttributes {
  return { handle_id: handle, secondary: { ...attributes, node } };
}

function inPools(pools: readonly AllocationPool[], block: Prefix): boolean {
  return pools.some(({ prefix }) => prefixCovers(prefix, block));
}

function wholly(block: Prefix, reserved: Reserved): boolean {
  const size = 2 ** (32 - block.length);
  for (let ordinal = 0; ordinal < size; ordinal++)
    if (!reserved((block.address + ordinal) as Ipv4)) return false;
  return true;
}
