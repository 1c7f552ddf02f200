/**
 * Path MTUs that the slow path learned from ICMP errors, told to the fast path: larger packets then take the slow
 * path, which tells their senders.
 */
import type { Ipv4 } from '../ip/ipv4.ts';

/** RFC 1191 §6.3, and what the slow path keeps to: a larger packet is tried again after this. */
const LIFETIME_MS = 10 * 60 * 1000;

export interface PathMtuSource {
  readonly icmpErrors: () => number;
  readonly pathMtus: () => readonly { readonly address: Ipv4; readonly pathMtu: number | null }[];
}

export class PathMtuFollower {
  readonly #source: PathMtuSource;
  readonly #set: (address: Ipv4, mtu: number | null) => void;
  readonly #untilMs = new Map<Ipv4, number>();
  #errors = 0;

  constructor(source: PathMtuSource, set: (address: Ipv4, mtu: number | null) => void) {
    this.#source = source;
    this.#set = set;
  }

  /** Peers are read only where an error came since the last call. */
  tick(nowMs: number): void {
    const errors = this.#source.icmpErrors();
    if (errors !== this.#errors) {
      this.#errors = errors;
      for (const { address, pathMtu } of this.#source.pathMtus()) {
        if (pathMtu === null) continue;
        this.#set(address, pathMtu);
        this.#untilMs.set(address, nowMs + LIFETIME_MS);
      }
    }
    for (const [address, untilMs] of this.#untilMs) {
      if (untilMs > nowMs) continue;
      this.#untilMs.delete(address);
      this.#set(address, null);
    }
  }
}
