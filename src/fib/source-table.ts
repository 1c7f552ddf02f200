/**
 * The inbound direction's table: who may send which inner source (DESIGN: source checks). Compiled from
 * ForwardingConfig and changed operation by operation; operations about entries concern the other direction.
 */
import type { ForwardingConfig, ForwardingOperation, SourceEntry } from './forwarding-config.ts';
import { LocalAddresses } from './local-addresses.ts';
import { FIRST_GROUP, PeerGroups, VALUE_ANY_PEER, VALUE_LOCAL } from './peer-groups.ts';
import { GRACE_MS, NO_PEER, PeerTable, TRANSPORT_NONE } from './peer-table.ts';
import { NO_MATCH, PrefixTable, ROW_WORDS } from './prefix-table.ts';
import { inboundPart, type SnapshotPart } from './snapshot-part.ts';

/** Verdicts of `check`. */
export const SOURCE_ACCEPTED = 0;
/** Accepted for a while, though nothing of the table changes when that ends: a grace is running. */
export const SOURCE_IN_GRACE = 5;
/** The outer source is neither a peer nor an external host. */
export const SOURCE_OUTER_UNKNOWN = 1;
/** The inner source is our own address or in our own block. */
export const SOURCE_INNER_LOCAL = 2;
/** The inner source belongs to somebody else. */
export const SOURCE_INNER_FOREIGN = 3;
/** Nobody may send this inner source: it is in no pool and no route. */
export const SOURCE_INNER_UNKNOWN = 4;

export class SourceTable {
  /** Grows with each change: what was read before may be kept as long as it stays the same. */
  changes = 0;
  readonly #clock: () => number;
  readonly peers = new PeerTable();
  readonly local = new LocalAddresses();
  readonly #groups = new PeerGroups(this.peers);
  readonly #sources = new PrefixTable();
  #externals = new PrefixTable();
  #byRoutes = false;
  /** Old owners whose packets may still be in flight: prefix -> index of #graceGroup and #graceUntilMs. */
  readonly #grace = new PrefixTable();
  readonly #graceGroup: number[] = [];
  readonly #graceUntilMs: number[] = [];
  readonly #graceFree: number[] = [];

  /** `clock` gives monotonic milliseconds; it is asked only where a grace may be running. */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** `slot` is peers.slotOf(outerSource). Both addresses in the same form, signed or unsigned. */
  check(outerSource: number, slot: number, innerSource: number): number {
    const value = this.#sources.lookup(innerSource);
    const isKnown = this.peers.isKnown(slot);
    if (slot === NO_PEER || (!isKnown && !this.peers.isLeaving(slot, this.#clock())))
      return this.#checkExternal(outerSource, innerSource, value);
    if (this.#isOwnedBy(value, slot) || (innerSource === outerSource && value !== VALUE_LOCAL))
      return isKnown ? SOURCE_ACCEPTED : SOURCE_IN_GRACE;
    if (this.#inGrace(innerSource, slot)) return SOURCE_IN_GRACE;
    if (this.#isExternal(outerSource)) return this.#checkExternal(outerSource, innerSource, value);
    return refusal(value);
  }

  apply(operation: ForwardingOperation): void {
    this.changes++;
    const nowMs = this.#clock();
    switch (operation.op) {
      case 'set-source':
        this.#setSource(operation.source, nowMs);
        break;
      case 'delete-source':
        this.#deleteSource(operation.prefix.address, operation.prefix.length, nowMs);
        break;
      case 'set-peer':
        this.peers.setPeer(operation.peer);
        break;
      case 'delete-peer':
        this.peers.deletePeer(operation.address, nowMs);
        break;
      case 'set-local':
        this.local.set(operation.outerSource, operation.localAddresses);
        break;
      case 'set-external-sources':
        this.#externals = new PrefixTable();
        for (const prefix of operation.prefixes) this.#externals.set(prefix.address, prefix.length, 0);
    }
  }

  /** Makes the table that of `config`; what changes hands keeps its old owner for the grace. */
  replace(config: ForwardingConfig): void {
    this.lay(inboundPart(config));
  }

  /** The same by the part that this direction asks. */
  lay(part: SnapshotPart): void {
    this.changes++;
    const nowMs = this.#clock();
    this.local.set(part.outerSource, part.localAddresses);
    this.#byRoutes = part.byRoutes === true;
    this.apply({ op: 'set-external-sources', prefixes: part.externalSources });
    this.peers.setPeers(part.peers);
    const groups = this.#groups.referenceAll(part.groups);
    const { rows } = part;
    const before = this.#sources.size;
    this.#sources.reserve(rows.length / ROW_WORDS);
    for (let at = 0; at < rows.length; at += ROW_WORDS) {
      const value = this.#groups.valueOf(rows[at + 2]!, groups);
      if (before > 0) this.#setValue(rows[at]!, rows[at + 1]!, value, nowMs);
      // The first table takes nothing from anybody.
      else this.#releaseValue(this.#sources.set(rows[at]!, rows[at + 1]!, value));
    }
    if (before > 0)
      for (const { address, length } of this.#sources.prefixesBeside(rows))
        this.#deleteSource(address, length, nowMs);
    for (const group of groups) this.#groups.release(group);
    this.peers.deleteOthers(part.peers, nowMs);
  }

  /** Forgets old owners whose grace has ended, so that their slots can be used again. */
  sweep(): void {
    this.changes++;
    const nowMs = this.#clock();
    const ended: { address: number; length: number; index: number }[] = [];
    this.#grace.forEach((address, length, index) => {
      if (this.#graceUntilMs[index]! <= nowMs) ended.push({ address, length, index });
    });
    for (const { address, length, index } of ended) {
      this.#grace.delete(address, length);
      this.#groups.release(this.#graceGroup[index]!);
      this.#graceFree.push(index);
    }
    this.peers.sweep(nowMs);
  }

  /** Whether the peer may send what the value stands for. Beside that, a host's address is its own to send: its identity. */
  #isOwnedBy(value: number, slot: number): boolean {
    if (value >= FIRST_GROUP) return this.#groups.contains(value, slot);
    return value === VALUE_ANY_PEER && (!this.#byRoutes || this.peers.transport(slot) !== TRANSPORT_NONE);
  }

  #checkExternal(outerSource: number, innerSource: number, value: number): number {
    if (this.#byRoutes && innerSource === outerSource && value !== VALUE_LOCAL) return SOURCE_ACCEPTED;
    if (!this.#isExternal(outerSource)) return SOURCE_OUTER_UNKNOWN;
    if (this.#byRoutes) return value === VALUE_LOCAL ? SOURCE_INNER_LOCAL : SOURCE_ACCEPTED;
    if (value === VALUE_LOCAL || value >= FIRST_GROUP) return refusal(value);
    // A peer's address is that peer's, even where no source entry says so.
    const owner = this.peers.slotOf(innerSource);
    if (owner !== NO_PEER && this.peers.isKnown(owner) && innerSource !== outerSource)
      return SOURCE_INNER_FOREIGN;
    return SOURCE_ACCEPTED;
  }

  #isExternal(outerSource: number): boolean {
    return this.#externals.size > 0 && this.#externals.lookup(outerSource) !== NO_MATCH;
  }

  #inGrace(innerSource: number, slot: number): boolean {
    if (this.#grace.size === 0) return false;
    const index = this.#grace.lookup(innerSource);
    if (index === NO_MATCH || this.#graceUntilMs[index]! <= this.#clock()) return false;
    return this.#groups.contains(this.#graceGroup[index]!, slot);
  }

  #setSource(source: SourceEntry, nowMs: number): void {
    const { address, length } = source.prefix;
    const value =
      source.owners === 'any-peer'
        ? VALUE_ANY_PEER
        : source.owners === 'local'
          ? VALUE_LOCAL
          : this.#groups.reference(source.owners);
    this.#setValue(address, length, value, nowMs);
  }

  #setValue(address: number, length: number, value: number, nowMs: number): void {
    const old = this.#sources.set(address, length, value);
    if (old !== NO_MATCH) {
      if (old !== value) this.#keepForGrace(address, length, old, nowMs);
      this.#releaseValue(old);
      return;
    }
    // A new, longer prefix takes addresses out of a shorter one: that one's owner is the old owner.
    const covering = length === 0 ? NO_MATCH : this.#sources.lookup(address, length - 1);
    if (covering !== value) this.#keepForGrace(address, length, covering, nowMs);
  }

  #deleteSource(address: number, length: number, nowMs: number): void {
    const old = this.#sources.delete(address, length);
    if (old < FIRST_GROUP) return;
    this.#keepForGrace(address, length, old, nowMs);
    this.#groups.release(old);
  }

  #releaseValue(value: number): void {
    if (value >= FIRST_GROUP) this.#groups.release(value);
  }

  #keepForGrace(address: number, length: number, value: number, nowMs: number): void {
    if (value < FIRST_GROUP) return;
    this.#groups.keep(value);
    const index = this.#graceFree.pop() ?? this.#graceGroup.length;
    this.#graceGroup[index] = value;
    this.#graceUntilMs[index] = nowMs + GRACE_MS;
    const replaced = this.#grace.set(address, length, index);
    if (replaced === NO_MATCH) return;
    this.#groups.release(this.#graceGroup[replaced]!);
    this.#graceFree.push(replaced);
  }
}

function refusal(value: number): number {
  if (value === VALUE_LOCAL) return SOURCE_INNER_LOCAL;
  return value === NO_MATCH ? SOURCE_INNER_UNKNOWN : SOURCE_INNER_FOREIGN;
}
