/** The two programs on their devices: outbound at the egress of the tunnel device, inbound at the ingress of each underlay device. */
import type { Bpf } from '../io/bpf.ts';
import { TCX_EGRESS, TCX_INGRESS } from '../io/bpf.ts';
import { systemCalls } from '../io/libc.ts';
import type { Pins } from './fast-path-pins.ts';
import type { FastDirection } from './fast-path-state.ts';

export interface Device {
  readonly name: string;
  readonly index: number;
}

interface Hook extends Device {
  readonly direction: FastDirection;
  readonly link: number;
}

export class Hooks {
  readonly #bpf: Bpf;
  readonly #programs: Readonly<Record<FastDirection, number>>;
  readonly #enter: <T>(fn: () => T) => T;
  readonly #pins: Pins | null;
  #hooks: readonly Hook[] = [];

  /** `enter` leads into the devices' namespace. */
  constructor(
    bpf: Bpf,
    programs: Readonly<Record<FastDirection, number>>,
    enter: <T>(fn: () => T) => T,
    pins: Pins | null,
  ) {
    this.#bpf = bpf;
    this.#programs = programs;
    this.#enter = enter;
    this.#pins = pins;
  }

  has(direction: FastDirection): boolean {
    return this.#hooks.some((hook) => hook.direction === direction);
  }

  /** Does nothing where the program hangs there already. */
  hang(direction: FastDirection, device: Device): void {
    if (this.#hooks.some((hook) => hook.direction === direction && hook.index === device.index)) return;
    const link = this.#takeOver(direction, device) ?? this.#attach(direction, device);
    this.#hooks = [...this.#hooks, { direction, ...device, link }];
  }

  /** Forgets the hooks whose programs were taken off, or whose devices are gone. @returns the former */
  check(): { readonly direction: FastDirection; readonly device: string }[] {
    const lost = this.#hooks.filter(({ link }) => this.#bpf.deviceOf(link) === 0);
    this.#hooks = this.#hooks.filter((hook) => !lost.includes(hook));
    for (const hook of lost) {
      systemCalls().close(hook.link);
      this.#pins?.removeLink(pinName(hook.direction, hook));
    }
    return lost
      .filter(({ name, index }) => this.#enter(() => systemCalls().ifNameToIndex(name)) === index)
      .map(({ direction, name }) => ({ direction, device: name }));
  }

  /** Programs that the process before us left on devices that are none of ours any more. */
  sweepPins(): void {
    const ours = new Set(this.#hooks.map((hook) => pinName(hook.direction, hook)));
    for (const name of this.#pins?.links().keys() ?? []) if (!ours.has(name)) this.#pins?.removeLink(name);
  }

  /** Lets go of the links: those that are not pinned vanish. */
  close(): void {
    for (const { link } of this.#hooks) systemCalls().close(link);
    this.#hooks = [];
  }

  #attach(direction: FastDirection, device: Device): number {
    const type = direction === 'outbound' ? TCX_EGRESS : TCX_INGRESS;
    const link = this.#enter(() => this.#bpf.attach(this.#programs[direction], device.index, type));
    this.#pins?.removeLink(pinName(direction, device));
    if (this.#pins) this.#bpf.pin(link, this.#pins.link(pinName(direction, device)));
    return link;
  }

  /** The link that the process before us left on this device, with our program in the place of its. */
  #takeOver(direction: FastDirection, device: Device): number | undefined {
    const link = this.#pins && this.#bpf.pinned(this.#pins.link(pinName(direction, device)));
    if (typeof link !== 'number') return undefined;
    if (this.#bpf.deviceOf(link) === device.index) {
      this.#bpf.exchange(link, this.#programs[direction]);
      return link;
    }
    systemCalls().close(link);
    return undefined;
  }
}

export function pinName(direction: FastDirection, device: Device): string {
  return `link-${direction}-${device.index}`;
}
