/**
 * Peers by slot: a small integer that stays the same while anybody refers to the address, so that tables,
 * counters and path MTUs can be arrays. Slot 0 is nobody in particular (a next hop that is no peer).
 */
import type { Peer } from './forwarding-config.ts';
import { NO_MATCH, PrefixTable } from './prefix-table.ts';

export const NO_PEER = 0;
export const TRANSPORT_NONE = 0;
export const TRANSPORT_IPIP = 1;
export const TRANSPORT_UDP = 2;
export const TRANSPORT_CODES = { none: TRANSPORT_NONE, ipip: TRANSPORT_IPIP, udp: TRANSPORT_UDP } as const;

/** Of a peer in a snapshot's part: address, transport, UDP port, MTU. */
export const PEER_WORDS = 4;

/** A peer that was deleted may still have packets in flight for as long as this. */
export const GRACE_MS = 1000;

export class PeerTable {
  readonly #slots = new PrefixTable();
  readonly #free: number[] = [];
  /** Deleted slots that nobody refers to, kept until their grace ends. */
  readonly #leaving = new Set<number>();
  /** Called when a slot gets an address, and with 0 when it is free again. */
  onAssign: (slot: number, address: number) => void = () => {};
  #end = 1;
  address = new Uint32Array(64);
  /** Whether the slot is a peer of the configuration, as opposed to a next hop that is not known yet. */
  known = new Uint8Array(64);
  transport = new Uint8Array(64);
  udpPort = new Int32Array(64);
  mtu = new Int32Array(64);
  /** Until when packets from a deleted peer are taken; 0 for one that was never deleted. */
  acceptedUntilMs = new Float64Array(64);
  #references = new Int32Array(64);

  /** Slots are below this. */
  get end(): number {
    return this.#end;
  }

  /** The slot of `address`, or NO_PEER. */
  slotOf(address: number): number {
    const slot = this.#slots.get(address, 32);
    return slot === NO_MATCH ? NO_PEER : slot;
  }

  /** Whether the slot's peer was deleted only a moment ago, so that its packets are still taken. */
  isLeaving(slot: number, nowMs: number): boolean {
    return this.acceptedUntilMs[slot]! > nowMs;
  }

  setPeer(peer: Peer): void {
    this.#set(peer.address, TRANSPORT_CODES[peer.transport], peer.udpPort, peer.mtu);
  }

  /** Those of a snapshot's part. */
  setPeers(words: Uint32Array): void {
    for (let at = 0; at < words.length; at += PEER_WORDS)
      this.#set(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  }

  #set(address: number, transport: number, udpPort: number, mtu: number): void {
    const slot = this.#slotFor(address);
    this.known[slot] = 1;
    this.transport[slot] = transport;
    this.udpPort[slot] = udpPort;
    this.mtu[slot] = mtu;
    this.acceptedUntilMs[slot] = 0;
  }

  /** Deletes those that are not in a snapshot's part. */
  deleteOthers(words: Uint32Array, nowMs: number): void {
    const kept = new Uint8Array(this.#end);
    for (let at = 0; at < words.length; at += PEER_WORDS) kept[this.slotOf(words[at]!)] = 1;
    for (let slot = 1; slot < kept.length; slot++)
      if (kept[slot] === 0 && this.known[slot] === 1) this.deletePeer(this.address[slot]!, nowMs);
  }

  deletePeer(address: number, nowMs: number): void {
    const slot = this.slotOf(address);
    if (slot === NO_PEER || this.known[slot] === 0) return;
    this.known[slot] = 0;
    this.acceptedUntilMs[slot] = nowMs + GRACE_MS;
    this.#releaseIfUnused(slot);
  }

  /** The slot of `address`, made where there is none, and kept until `release`. */
  reference(address: number): number {
    const slot = this.#slotFor(address);
    this.#references[slot]!++;
    return slot;
  }

  release(slot: number): void {
    this.#references[slot]!--;
    this.#releaseIfUnused(slot);
  }

  /** Frees the slots of deleted peers whose grace has ended. */
  sweep(nowMs: number): void {
    for (const slot of this.#leaving) {
      if (this.acceptedUntilMs[slot]! > nowMs) continue;
      this.#leaving.delete(slot);
      if (this.known[slot] === 1 || this.#references[slot]! > 0) continue;
      this.#slots.delete(this.address[slot]!, 32);
      this.address[slot] = 0;
      this.acceptedUntilMs[slot] = 0;
      this.#free.push(slot);
      this.onAssign(slot, 0);
    }
  }

  #releaseIfUnused(slot: number): void {
    if (this.known[slot] === 0 && this.#references[slot] === 0) this.#leaving.add(slot);
  }

  #slotFor(address: number): number {
    const existing = this.slotOf(address);
    if (existing !== NO_PEER) {
      this.#leaving.delete(existing);
      return existing;
    }
    const slot = this.#free.pop() ?? this.#end++;
    if (slot >= this.address.length) this.#grow();
    this.address[slot] = address;
    this.#slots.set(address, 32, slot);
    this.onAssign(slot, address);
    return slot;
  }

  #grow(): void {
    const size = this.address.length * 2;
    this.address = enlarged(this.address, new Uint32Array(size));
    this.known = enlarged(this.known, new Uint8Array(size));
    this.transport = enlarged(this.transport, new Uint8Array(size));
    this.udpPort = enlarged(this.udpPort, new Int32Array(size));
    this.mtu = enlarged(this.mtu, new Int32Array(size));
    this.acceptedUntilMs = enlarged(this.acceptedUntilMs, new Float64Array(size));
    this.#references = enlarged(this.#references, new Int32Array(size));
  }
}

function enlarged<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
