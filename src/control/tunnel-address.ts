/**
 * The tunnel address of each node: the /32 on the tunnel device, so that what the host itself sends to a remote
 * workload has a source that comes back. It is taken through IPAM under a handle of its own, and looked at anew
 * at every change: an address that a workload holds, of another node's name, or of a pool that is gone, disabled
 * or without IP-in-IP is given up for a right one.
 */

import { FailedError } from '../base/errors.ts';
import type { Ipv4 } from '../ip/ipv4.ts';
import { parseIpv4 } from '../ip/ipv4.ts';
import { prefixContains } from '../ip/prefix.ts';
import { type AllocationPool, poolsFor } from '../ipam/pools.ts';
import { TUNNEL_ADDRESS_TYPE, tunnelHandle } from '../model/ipam-values.ts';
import type { Node } from '../model/resources.ts';
import type { AddressAllocator, AssignRequest, HeldAddress } from './address-allocator.ts';
import type { IpamStore } from './ipam-store.ts';

export class TunnelAddresses {
  readonly #ipam: IpamStore;
  readonly #allocator: AddressAllocator;

  constructor(ipam: IpamStore, allocator: AddressAllocator) {
    this.#ipam = ipam;
    this.#allocator = allocator;
  }

  async release(node: string): Promise<void> {
    await this.#allocator.releaseByHandle(tunnelHandle(node));
  }

  async assign(node: string): Promise<Ipv4 | null> {
    const [resource, pools] = await Promise.all([
      this.#ipam.resource('Node', node),
      this.#ipam.resources('IPPool'),
    ]);
    const valid = resource ? poolsFor(pools, resource, 'Tunnel') : [];
    const kept = await this.#keep(node, valid, resource);
    if (kept !== undefined) return kept;
    if (!resource || valid.length === 0) return null;
    return this.#assignNew(node, valid, resource);
  }

  /** Of what the node's handle holds, the one address that is right; all others are released. */
  async #keep(
    node: string,
    valid: readonly AllocationPool[],
    resource: Node | undefined,
  ): Promise<Ipv4 | undefined> {
    const held = await this.#allocator.held(tunnelHandle(node));
    const right = held.filter((one) => isTunnelAddressOf(node, one) && inSome(valid, one.address));
    const named = writtenAddress(resource);
    const kept = right.find(({ address }) => address === named) ?? right[0];
    for (const { address } of held)
      if (address !== kept?.address) await this.#allocator.releaseAddress(address);
    return kept?.address;
  }

  /** The address that the Node resource names is taken where it can be had: peers know it already. */
  async #assignNew(node: string, valid: readonly AllocationPool[], resource: Node): Promise<Ipv4> {
    const request: AssignRequest = {
      node,
      handle: tunnelHandle(node),
      attributes: { type: TUNNEL_ADDRESS_TYPE },
      use: 'Tunnel',
      pools: valid.map(({ name }) => name),
    };
    const named = writtenAddress(resource);
    if (named !== undefined && inSome(valid, named)) {
      await this.#releaseUnsigned(named);
      const taken = await this.#tryAddress({ ...request, address: named });
      if (taken !== undefined) return taken;
    }
    return (await this.#allocator.assign(request)).address;
  }

  async #tryAddress(request: AssignRequest): Promise<Ipv4 | undefined> {
    try {
      return (await this.#allocator.assign(request)).address;
    } catch (error) {
      const code = error instanceof FailedError ? error.code : '';
      if (code === 'ERR_ADDRESS_IN_USE' || code === 'ERR_ADDRESS_STRICT') return undefined;
      throw error;
    }
  }

  /** Calico before 3 took tunnel addresses without handle and attributes; such a one is made anew, with both. */
  async #releaseUnsigned(address: Ipv4): Promise<void> {
    const holder = await this.#allocator.holder(address);
    const unsigned = holder && !holder.handle_id && Object.keys(holder.secondary ?? {}).length === 0;
    if (!unsigned || (await this.#isWorkload(address))) return;
    await this.#allocator.releaseAddress(address);
  }

  async #isWorkload(address: Ipv4): Promise<boolean> {
    const endpoints = await this.#ipam.resources('WorkloadEndpoint');
    return endpoints.some(({ spec }) =>
      spec.ipNetworks?.some((network) => parseIpv4(network.split('/')[0] ?? '') === address),
    );
  }
}

function isTunnelAddressOf(node: string, { attributes }: HeldAddress): boolean {
  return attributes.secondary?.node === node && attributes.secondary.type === TUNNEL_ADDRESS_TYPE;
}

function inSome(pools: readonly AllocationPool[], address: Ipv4): boolean {
  return pools.some(({ prefix }) => prefixContains(prefix, address));
}

function writtenAddress(resource: Node | undefined): Ipv4 | undefined {
  return parseIpv4(resource?.spec.bgp?.ipv4IPIPTunnelAddr ?? '');
}
