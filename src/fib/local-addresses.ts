/** The addresses that are ours on the underlay. */
import type { Ipv4 } from '../ip/ipv4.ts';

export class LocalAddresses {
  /** Source of the outer header; 0 lets the kernel choose by its route. */
  outerSource = 0;
  /** Whether only listed outer destinations are ours; else whatever the kernel delivered is. */
  listed = false;
  #addresses = new Int32Array(0);
  #outerSource = 0;

  set(outerSource: Ipv4 | null, addresses: readonly Ipv4[] | null): void {
    this.outerSource = outerSource ?? 0;
    this.#outerSource = this.outerSource | 0;
    this.listed = addresses !== null;
    this.#addresses = Int32Array.from(addresses ?? []);
  }

  /** Whether `address` is known to be ours. */
  has(address: number): boolean {
    const wanted = address | 0;
    if (wanted === this.#outerSource && wanted !== 0) return true;
    for (let i = 0; i < this.#addresses.length; i++) if (this.#addresses[i] === wanted) return true;
    return false;
  }

  /** Whether a packet that the kernel delivered to `address` is for us. */
  accepts(address: number): boolean {
    return !this.listed || this.has(address);
  }
}
