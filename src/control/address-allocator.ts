/**
 * Addresses from IPAM: what the agent and the commands ask for. Theory of operation of an allocation:
 *   1. the pools that the node may take from (ipam/pools.ts) are read, and the addresses that are kept out;
 *   2. the sources (address-sources.ts) are asked in order: the node's own blocks, in the order of their keys; new
 *      blocks, claimed by block-claims.ts, up to 20 a node unless configured otherwise; then, unless affinity is
 *      strict, other nodes' blocks.
 *   3. In one block, the handle counts first (handle-counts.ts), then the block is written by compare-and-swap. On a
 *      conflict the count is taken back and the block is read again.
 * Releasing (address-release.ts) goes the other way: the block, then the count. While the cluster is locked
 * (ClusterInformation's datastoreReady: false) nothing is given; what an operator releases is released.
 */
import { FailedError } from '../base/errors.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { type Prefix, prefixOf } from '../ip/prefix.ts';
import { holderOf, takeAddress } from '../ipam/block.ts';
import type { Miscount } from '../ipam/check.ts';
import { poolOf, reservedBy, type Use } from '../ipam/pools.ts';
import { allocationsOf, blockOwner } from '../model/ipam-values.ts';
import { blockKey, IPAM_BLOCKS, parseKey } from '../model/keys.ts';
import type { IpamAttributes, Node } from '../model/resources.ts';
import { ConflictError, type Revision } from '../store/datastore.ts';
import { releaseAffinities, releaseFrom, releaseNode, releasePoolAffinities } from './address-release.ts';
import { AddressSources, type Assignment, maxBlocksPerNode, type Plan } from './address-sources.ts';
import { automaticPools, inUse, notInPool, requestedPools, strictlyAnothers } from './allocation-limits.ts';
import { claimBlock, settleBlock } from './block-claims.ts';
import { counted, mendCount } from './handle-counts.ts';
import { IpamStore, type IpamStoreOptions } from './ipam-store.ts';
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
  /** Finishes or takes back what a process that died left half done, and drops affinities to others' blocks. */
  settleAffinities(node: string): Promise<void>;
  /** The same for one block; makes an affinity where the block is the node's without one. */
  settleAffinity(node: string, block: Prefix): Promise<void>;
  /** Makes a handle count what it holds in a block; false where it changed since it was looked at. */
  mendCount(miscount: Miscount): Promise<boolean>;
  /** All that a deleted node held: its workloads' addresses, its tunnel address, its affinities. */
  releaseNode(node: string): Promise<void>;
}

export function createAddressAllocator(options: IpamStoreOptions): AddressAllocator {
  return new Allocator(new IpamStore(options));
}

class Allocator implements AddressAllocator {
  readonly #ipam: IpamStore;
  readonly #sources: AddressSources;
  readonly #tunnels: TunnelAddresses;

  constructor(ipam: IpamStore) {
    this.#ipam = ipam;
    this.#sources = new AddressSources(ipam);
    this.#tunnels = new TunnelAddresses(ipam, this);
  }

  async assignTunnelAddress(node: string): Promise<Ipv4 | null> {
    await this.#ipam.requireReady();
    return this.#tunnels.assign(node);
  }

  async releaseTunnelAddress(node: string): Promise<void> {
    await this.#tunnels.release(node);
  }

  async assign(request: AssignRequest): Promise<Assignment> {
    await this.#ipam.requireReady();
    if (request.address !== undefined) return this.#assignAddress(request, request.address);
    const [assignment] = await this.#assignFree(request, 1);
    if (assignment) return assignment;
    throw await this.#exhausted(request.node);
  }

  async assignMany(request: AssignRequest, count: number): Promise<readonly Assignment[]> {
    await this.#ipam.requireReady();
    return this.#assignFree(request, count);
  }

  async #assignFree(request: AssignRequest, count: number): Promise<readonly Assignment[]> {
    const plan = await this.#plan(request);
    const found = await this.#sources.fromOwnBlocks(plan, count);
    if (found.length < count) found.push(...(await this.#sources.fromNewBlocks(plan, count - found.length)));
    if (found.length < count && !plan.config.strict_affinity)
      found.push(...(await this.#sources.borrowed(plan, count - found.length)));
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
      return counted(this.#ipam, request.handle, stored.value.cidr, 1, () =>
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
        ...(await releaseFrom(this.#ipam, block, (_address, attributes) => attributes.handle_id === handle)),
      );
    return addresses;
  }

  async releaseAddress(address: Ipv4): Promise<boolean> {
    const block = await this.#blockOf(address);
    if (!block) return false;
    return (await releaseFrom(this.#ipam, block, (other) => other === address)).length > 0;
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

  releaseAffinities(node: string, which: 'empty' | 'all'): Promise<void> {
    return releaseAffinities(this.#ipam, node, which);
  }

  releasePoolAffinities(pool: Prefix): Promise<void> {
    return releasePoolAffinities(this.#ipam, pool);
  }

  async settleAffinities(node: string): Promise<void> {
    await this.#ipam.requireReady();
    for (const { block } of await this.#ipam.affinities(node)) await settleBlock(this.#ipam, node, block);
  }

  settleAffinity(node: string, block: Prefix): Promise<void> {
    return settleBlock(this.#ipam, node, block);
  }

  mendCount(miscount: Miscount): Promise<boolean> {
    return mendCount(this.#ipam, miscount);
  }

  releaseNode(node: string): Promise<void> {
    return releaseNode(this.#ipam, node);
  }

  async #exhausted(node: string): Promise<FailedError> {
    const [config, affinities] = await Promise.all([this.#ipam.config(), this.#ipam.affinities(node)]);
    const limit = maxBlocksPerNode(config);
    const full = affinities.length >= limit;
    const why = [
      ...(full ? [`it has as many blocks as a node may have, ${limit}`] : []),
      ...(config.strict_affinity ? ['strict affinity forbids to borrow from other nodes'] : []),
    ];
    return new FailedError(
      'ERR_NO_FREE_ADDRESS',
      [`there is no free address for node ${node}`, ...why].join('; '),
      {
        hint: full
          ? `more blocks: tortie ipam configure --max-blocks-per-host=${2 * limit}`
          : '`tortie ipam show --show-blocks` shows what is in use; another pool gives more',
      },
    );
  }
}

function attributesFor({ node, handle, attributes }: AssignRequest): IpamAttributes {
  return { handle_id: handle, secondary: { ...attributes, node } };
}
