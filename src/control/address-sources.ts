/**
 * Where an allocation takes addresses from, in this order: the node's own blocks, new blocks, and other nodes' blocks
 * (borrowing). Each gives up to `count`, fewer where it has no more; the allocator says which are asked.
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import { type Prefix, prefixCovers } from '../ip/prefix.ts';
import { type Reserved, takeFromBlock } from '../ipam/block.ts';
import { blocksInOrder } from '../ipam/block-order.ts';
import type { AllocationPool } from '../ipam/pools.ts';
import { blockOwner } from '../model/ipam-values.ts';
import type { IpamAttributes, IpamBlock, IpamConfig } from '../model/resources.ts';
import { claimBlock, ownBlock } from './block-claims.ts';
import { counted } from './handle-counts.ts';
import { type IpamStore, IpamValueError, type OwnAffinity, type Stored } from './ipam-store.ts';

/** Where Calico's own limit stands when the configuration has none. */
const DEFAULT_MAX_BLOCKS_PER_NODE = 20;
/** Candidates looked at one by one before the list of all blocks is read. */
const PROBES = 16;

export interface Assignment {
  readonly address: Ipv4;
  readonly block: Prefix;
}

/** What one allocation wants, and from where. */
export interface Plan {
  readonly node: string;
  readonly handle: string;
  readonly attributes: IpamAttributes;
  readonly pools: readonly AllocationPool[];
  readonly reserved: Reserved;
  readonly config: IpamConfig;
}

export function maxBlocksPerNode(config: IpamConfig): number {
  return config.maxBlocksPerHost || DEFAULT_MAX_BLOCKS_PER_NODE;
}

export class AddressSources {
  readonly #ipam: IpamStore;
  /** Blocks that had no address to give when they were last seen: they are asked after the others. */
  readonly #full = new Set<number>();

  constructor(ipam: IpamStore) {
    this.#ipam = ipam;
  }

  async fromOwnBlocks(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    const own = (await this.#ipam.affinities(plan.node)).filter(({ block }) => inPools(plan.pools, block));
    const wasFull = ({ block }: OwnAffinity) => this.#full.has(block.address);
    for (const { block, value } of [...own.filter((one) => !wasFull(one)), ...own.filter(wasFull)]) {
      if (found.length >= count) break;
      let stored = await this.#usable(() => this.#ipam.block(block));
      // The usual case needs no second look at the affinity: the block says whose it is.
      if (value.state !== 'confirmed' || !stored || blockOwner(stored.value) !== plan.node)
        stored = await this.#usable(() => ownBlock(this.#ipam, plan.node, block));
      if (stored) found.push(...(await this.#assignFrom(plan, block, count - found.length, 'own', stored)));
    }
    return found;
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

  async fromNewBlocks(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    if (!plan.config.auto_allocate_blocks) return found;
    const limit = maxBlocksPerNode(plan.config);
    let owned = (await this.#ipam.affinities(plan.node)).length;
    for await (const block of this.#freeBlocks(plan)) {
      if (owned >= limit) break;
      const claimed = await this.#usable(() => claimBlock(this.#ipam, plan.node, block));
      if (!claimed) continue;
      owned++;
      found.push(...(await this.#assignFrom(plan, block, count - found.length, 'own', claimed)));
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

  async borrowed(plan: Plan, count: number): Promise<Assignment[]> {
    const found: Assignment[] = [];
    const blocks = await this.#ipam.blocks();
    for (const { prefix, ...stored } of blocks) {
      if (found.length >= count) break;
      if (!inPools(plan.pools, prefix) || stored.value.unallocated.length === 0) continue;
      found.push(...(await this.#assignFrom(plan, prefix, count - found.length, 'any', stored)));
    }
    return found;
  }

  async #assignFrom(
    plan: Plan,
    block: Prefix,
    count: number,
    owner: 'own' | 'any',
    seen: Stored<IpamBlock>,
  ): Promise<readonly Assignment[]> {
    let known: Stored<IpamBlock> | undefined = seen;
    const addresses = await this.#ipam.retry(`assigning an address to ${plan.handle}`, async () => {
      // What the caller has just read serves once; after a conflict it is old.
      const stored = known ?? (await this.#usable(() => this.#ipam.block(block)));
      known = undefined;
      if (!stored || (owner === 'own' && blockOwner(stored.value) !== plan.node)) return [];
      const taken = takeFromBlock(stored.value, count, plan.attributes, plan.reserved);
      if (taken.addresses.length < count) this.#full.add(block.address);
      else this.#full.delete(block.address);
      if (taken.addresses.length > 0)
        await counted(this.#ipam, plan.handle, stored.value.cidr, taken.addresses.length, () =>
          this.#ipam.updateBlock(block, taken.block, stored.revision),
        );
      return taken.addresses;
    });
    return addresses.map((address) => ({ address, block }));
  }
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
