/** Each direction of the data plane on memory links: packets in, packets out, counters. */
import {
  Counters,
  conservationGap,
  createCounterMemory,
  type Direction,
} from '../../src/dataplane/counters.ts';
import { IcmpListener } from '../../src/dataplane/icmp-listener.ts';
import { Inbound } from '../../src/dataplane/inbound.ts';
import { Outbound } from '../../src/dataplane/outbound.ts';
import { PathState } from '../../src/dataplane/path-state.ts';
import {
  PacketBatch,
  type PacketMemory,
  type PacketSource,
  PieceBatch,
  SLOT_BYTES,
} from '../../src/dataplane/ports.ts';
import { UnroutedHold } from '../../src/dataplane/unrouted-hold.ts';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { ForwardingTable } from '../../src/fib/forwarding-table.ts';
import { SourceTable } from '../../src/fib/source-table.ts';
import { MemorySink, MemorySource, MemoryWaiter, PlainMemory } from '../../src/io/memory-links.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import type { UnderlayMtu } from '../../src/ip/mtu.ts';
import { prefix } from '../../src/ip/prefix.ts';

/** The node of these tests, a peer of it, and a host that is neither. */
export const SELF = ipv4('10.0.2.15');
export const PEER = ipv4('10.0.3.10');
export const OTHER_PEER = ipv4('10.0.3.11');
export const STRANGER = ipv4('10.9.9.9');

/** Our block is 192.168.42.64/26, the peer's 192.168.77.128/26: those of the test packets W1 and W3. */
export const CONFIG: ForwardingConfig = {
  revision: 1,
  outerSource: SELF,
  localAddresses: [SELF],
  entries: [{ prefix: prefix('192.168.77.128/26'), nextHops: [PEER] }],
  peers: [
    { address: PEER, transport: 'ipip', udpPort: 0, mtu: 1500 as UnderlayMtu },
    { address: OTHER_PEER, transport: 'ipip', udpPort: 0, mtu: 1500 as UnderlayMtu },
  ],
  sources: [
    { prefix: prefix('192.168.0.0/16'), owners: 'any-peer' },
    { prefix: prefix('192.168.77.128/26'), owners: [PEER] },
    { prefix: prefix('192.168.42.64/26'), owners: 'local' },
  ],
  externalSources: [prefix('172.16.0.0/12')],
};

const VNET_BYTES = 10;

export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** A packet as a TUN delivers it: behind a virtio-net header, all zero unless given. */
export function fromTun(packet: Uint8Array, vnet: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(VNET_BYTES + packet.length);
  bytes.set(vnet);
  bytes.set(packet, VNET_BYTES);
  return bytes;
}

function parts(direction: Direction, packets = 8, slotBytes = SLOT_BYTES) {
  const memory = new PlainMemory((2 << 20) + packets * 2 * slotBytes);
  const source = new MemorySource(memory, new PacketBatch(memory, packets, slotBytes));
  const sink = new MemorySink(memory, new PieceBatch(memory, 64, 128));
  const counters = new Counters(direction, createCounterMemory());
  return {
    memory,
    source,
    sink,
    counters,
    waiter: new MemoryWaiter(source),
    time: { now: 1000 },
    /** Counters other than 0, without those that every packet moves. */
    moved: () =>
      Object.fromEntries(
        Object.entries(counters.snapshot()).filter(
          ([name, count]) => count !== 0 && !/_bytes$|_batches$/.test(name),
        ),
      ),
    gap: () => conservationGap(counters.snapshot(), direction),
  };
}

export function makeOutbound(config: ForwardingConfig = CONFIG, unrouted: 'drop' | 'hold' = 'drop') {
  const p = parts('outbound');
  const clock = () => p.time.now;
  const table = new ForwardingTable(clock);
  const paths = new PathState(clock);
  table.peers.onAssign = (slot, address) => p.counters.assignPeer(slot, address);
  table.replace(config);
  const hold = unrouted === 'hold' ? new UnroutedHold(p.memory, clock) : undefined;
  const datagramSink = new MemorySink(p.memory, new PieceBatch(p.memory, 256, 256));
  const hearErrors = () => listener.step();
  const outbound = new Outbound({
    ...{ ...p, datagramSink, table, paths, clock, hearErrors },
    ...(hold ? { hold } : {}),
  });
  const errors = new MemorySource(p.memory, new PacketBatch(p.memory, 4, 2048));
  const listener: IcmpListener = new IcmpListener({
    ...p,
    source: errors,
    table,
    paths,
    replies: outbound.replies,
  });
  return {
    ...p,
    table,
    paths,
    hold,
    outbound,
    datagramSink,
    /** The same by the `udp` transport. */
    sendByUdp(...packets: Uint8Array[]) {
      for (const packet of packets) p.source.push(packet);
      const before = datagramSink.sent.length;
      while (outbound.step() > 0);
      return datagramSink.sent.slice(before);
    },
    /** Runs these packets through in one batch and returns what left because of them. */
    send(...packets: Uint8Array[]) {
      for (const packet of packets) p.source.push(packet);
      const before = p.sink.sent.length;
      while (outbound.step() > 0);
      return p.sink.sent.slice(before);
    },
    /** An ICMP message that lies in the socket while something else is at work. */
    leave: (message: Uint8Array) => errors.push(message),
    /** An ICMP message from the underlay. */
    hear(message: Uint8Array) {
      errors.push(message);
      const before = p.sink.sent.length;
      while (listener.step() > 0) outbound.sendReplies();
      return p.sink.sent.slice(before);
    },
  };
}

/** A datagram as it arrives: what the socket tells of its outer header, and the inner packet. */
export interface Datagram {
  readonly bytes: Uint8Array;
  readonly sender: number;
  readonly destination: number;
  readonly tos: number;
}

/** Datagrams of one way and size lie in one slot, the last of which may be shorter (UDP_GRO). */
class DatagramSlots implements PacketSource {
  readonly batch: PacketBatch;
  readonly #memory: PacketMemory;

  constructor(memory: PacketMemory, slots: number, slotBytes: number) {
    this.#memory = memory;
    this.batch = new PacketBatch(memory, slots, slotBytes);
  }

  fill(datagrams: readonly Datagram[], mostInSlot: number): void {
    const { batch } = this;
    let inSlot = 0;
    for (const { bytes, ...way } of datagrams) {
      const last = batch.count - 1;
      if (
        last >= 0 &&
        batch.sender(last) === (way.sender | 0) &&
        batch.destination(last) === (way.destination | 0) &&
        batch.tos(last) === way.tos &&
        inSlot < mostInSlot &&
        bytes.length <= batch.segmentBytes(last) &&
        batch.length(last) === inSlot * batch.segmentBytes(last)
      ) {
        this.#memory.bytes.set(bytes, batch.offset(last) + batch.length(last));
        batch.setLength(last, batch.length(last) + bytes.length);
        inSlot += 1;
        continue;
      }
      const slot = batch.count++;
      this.#memory.bytes.set(bytes, batch.offset(slot));
      batch.setLength(slot, bytes.length);
      batch.setOuter(slot, way.sender, way.destination, way.tos, bytes.length);
      inSlot = 1;
    }
    for (let i = 0; i < batch.count; i++)
      if (batch.segmentBytes(i) === batch.length(i))
        batch.setOuter(i, batch.sender(i), batch.destination(i), batch.tos(i), 0);
  }

  receive(): number {
    return this.batch.count;
  }
}

export function makeInbound(config: ForwardingConfig = CONFIG, slots = 8, slotBytes = SLOT_BYTES) {
  const p = parts('inbound', slots, slotBytes);
  const table = new SourceTable(() => p.time.now);
  table.peers.onAssign = (slot, address) => p.counters.assignPeer(slot, address);
  table.replace(config);
  const datagrams = new DatagramSlots(p.memory, slots, slotBytes);
  const inbound = new Inbound({ ...p, datagrams, table, udpSuperpackets: true });
  return {
    ...p,
    table,
    inbound,
    /** Runs these datagrams through in one batch. */
    receiveDatagrams(packets: readonly Datagram[], mostInSlot: number): void {
      datagrams.fill(packets, mostInSlot);
      inbound.stepDatagrams();
      datagrams.batch.count = 0;
    },
    /** What the TUN is given for these packets: virtio-net header and inner packet apart. */
    receive(...packets: Uint8Array[]) {
      for (const packet of packets) p.source.push(packet);
      const before = p.sink.sent.length;
      while (inbound.step() > 0);
      return p.sink.sent
        .slice(before)
        .map(({ bytes }) => ({ vnet: [...bytes.slice(0, VNET_BYTES)], packet: bytes.slice(VNET_BYTES) }));
    },
  };
}
