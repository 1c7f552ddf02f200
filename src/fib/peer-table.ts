/**
 * Peers by slot: a small integer that stays the same while anybody refers to the address, so that tables,
 * counters and path MTUs can be arrays. Slot 0 is nobody in particular (a next hop that is no peer).
 */
import { enlarged } from '../base/enlarged.ts';
import type { Peer } from './forwarding-config.ts';
import { NO_MATCH, PrefixTable } from './prefix-table.ts';

export const NO_PEER = 0;
export const TRANSPORT_NONE = 0;
export const TRANSPORT_IPIP = 1;
export const TRANSPORT_UDP = 2;
export const TRANSPORT_CODES = { none: TRANSPORT_NONE, ipip: TRANSPORT_IPIP, udp: TRANSPORT_UDP } as const;

/** A record of a slot, in words: one, not an array for each, since a packet alone finds none of them in the cache. */
const SLOT_ADDRESS = 0;
const SLOT_KNOWN = 1;
const SLOT_TRANSPORT = 2;
const SLOT_UDP_PORT = 3;
const SLOT_MTU = 4;
const SLOT_REFERENCES = 5;
const SLOT_WORDS = 6;
const FIRST_SLOTS = 64;

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
  #records = new Int32Array(FIRST_SLOTS * SLOT_WORDS);
  /** Until when packets from a deleted peer are taken; 0 for one that was never deleted. */
  #acceptedUntilMs = new Float64Array(FIRST_SLOTS);

  /** Slots are below this. */
  get end(): number {
    return this.#end;
  }

  /** As a signed word. */
  address(slot: number): number {
    return this.#records[slot * SLOT_WORDS + SLOT_ADDRESS]!;
  }

  /** Whether the slot is a peer of the configuration, as opposed to a next hop that is not known yet. */
  isKnown(slot: number): boolean {
    return this.#records[slot * SLOT_WORDS + SLOT_KNOWN] === 1;
  }

  transport(slot: number): number {
    return this.#records[slot * SLOT_WORDS + SLOT_TRANSPORT]!;
  }

  udpPort(slot: number): number {
    return this.#records[slot * SLOT_WORDS + SLOT_UDP_PORT]!;
  }

  mtu(slot: number): number {
    return this.#records[slot * SLOT_WORDS + SLOT_MTU]!;
  }

  /** The slot of `address`, or NO_PEER. */
  slotOf(address: number): number {
    const slot = this.#slots.get(address, 32);
    return slot === NO_MATCH ? NO_PEER : slot;
  }

  /** Whether the slot's peer was deleted only a moment ago, so that its packets are still taken. */
  isLeaving(slot: number, nowMs: number): boolean {
    return this.#acceptedUntilMs[slot]! > nowMs;
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
    const at = slot * SLOT_WORDS;
    this.#records[at + SLOT_KNOWN] = 1;
    this.#records[at + SLOT_TRANSPORT] = transport;
    this.#records[at + SLOT_UDP_PORT] = udpPort;
    this.#records[at + SLOT_MTU] = mtu;
    this.#acceptedUntilMs[slot] = 0;
  }

  /** Deletes those that are not in a snapshot's part. */
  deleteOthers(words: Uint32Array, nowMs: number): void {
    const kept = new Uint8Array(this.#end);
    for (let at = 0; at < words.length; at += PEER_WORDS) kept[this.slotOf(words[at]!)] = 1;
    for (let slot = 1; slot < kept.length; slot++)
      if (kept[slot] === 0 && this.isKnown(slot)) this.deletePeer(this.address(slot), nowMs);
  }

  deletePeer(address: number, nowMs: number): void {
    const slot = this.slotOf(address);
    if (slot === NO_PEER || !this.isKnown(slot)) return;
    this.#records[slot * SLOT_WORDS + SLOT_KNOWN] = 0;
    this.#acceptedUntilMs[slot] = nowMs + GRACE_MS;
    this.#releaseIfUnused(slot);
  }

  /** The slot of `address`, made where there is none, and kept until `release`. */
  reference(address: number): number {
    const slot = this.#slotFor(address);
    this.#records[slot * SLOT_WORDS + SLOT_REFERENCES]!++;
    return slot;
  }

  release(slot: number): void {
    this.#records[slot * SLOT_WORDS + SLOT_REFERENCES]!--;
    this.#releaseIfUnused(slot);
  }

  /** Frees the slots of deleted peers whose grace has ended. */
  sweep(nowMs: number): void {
    for (const slot of this.#leaving) {
      if (this.isLeaving(slot, nowMs)) continue;
      this.#leaving.delete(slot);
      if (this.isKnown(slot) || this.#isReferred(slot)) continue;
      this.#slots.delete(this.address(slot), 32);
      this.#records[slot * SLOT_WORDS + SLOT_ADDRESS] = 0;
      this.#acceptedUntilMs[slot] = 0;
      this.#free.push(slot);
      this.onAssign(slot, 0);
    }
  }

  #releaseIfUnused(slot: number): void {
    if (!this.isKnown(slot) && !this.#isReferred(slot)) this.#leaving.add(slot);
  }

  #isReferred(slot: number): boolean {
    return this.#records[slot * SLOT_WORDS + SLOT_REFERENCES]! > 0;
  }

  #slotFor(address: number): number {
    const existing = this.slotOf(address);
    if (existing !== NO_PEER) {
      this.#leaving.delete(existing);
      return existing;
    }
    const slot = this.#free.pop() ?? this.#end++;
    if (slot >= this.#acceptedUntilMs.length) this.#grow();
    this.#records[slot * SLOT_WORDS + SLOT_ADDRESS] = address;
    this.#slots.set(address, 32, slot);
    this.onAssign(slot, address);
    return slot;
  }

  #grow(): void {
    const size = this.#acceptedUntilMs.length * 2;
    this.#records = enlarged(this.#records, new Int32Array(size * SLOT_WORDS));
    this.#acceptedUntilMs = enlarged(this.#acceptedUntilMs, new Float64Array(size));
  }
}
