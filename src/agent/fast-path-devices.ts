/** The host's devices and addresses, as far as the fast path asks about them. What was asked is kept until something changes. */
import { networkInterfaces } from 'node:os';
import { type DeviceKind, deviceKind } from '../io/device-kind.ts';
import { systemCalls } from '../io/libc.ts';
import { formatIpv4, type Ipv4, ipv4 } from '../ip/ipv4.ts';
import type { Device } from './fast-path-hooks.ts';

export class HostDevices {
  readonly #enter: <T>(fn: () => T) => T;
  readonly #kinds = new Map<number, DeviceKind | undefined>();

  /** `enter` leads into the devices' namespace. */
  constructor(enter: <T>(fn: () => T) => T) {
    this.#enter = enter;
  }

  /** Links or addresses have changed. */
  forget(): void {
    this.#kinds.clear();
  }

  /** The device of that number, if it is an Ethernet one. */
  ethernet(index: number): Device | undefined {
    if (!this.#kinds.has(index))
      this.#kinds.set(
        index,
        this.#enter(() => deviceKind(index)),
      );
    const kind = this.#kinds.get(index);
    return kind?.isEthernet ? { name: kind.name, index } : undefined;
  }

  /** The numbers of those that are up and hold one of `addresses`. */
  holding(addresses: readonly Ipv4[]): number[] {
    const wanted = new Set(addresses.map(formatIpv4));
    return this.#enter(() =>
      Object.entries(networkInterfaces())
        .filter(([, held]) => held?.some(({ address }) => wanted.has(address)))
        .map(([name]) => systemCalls().ifNameToIndex(name)),
    );
  }

  /** All addresses but for the loopback's and those of `device`. */
  addressesBut(device: string): Ipv4[] {
    return this.#enter(() =>
      Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
        name === device
          ? []
          : (addresses ?? []).flatMap((a) => (a.family === 'IPv4' && !a.internal ? [ipv4(a.address)] : [])),
      ),
    );
  }
}
