/** Outbound by frames of our own: what they look like, and which packets go the kernel's way instead. */
import { expect, test } from 'vitest';
import { Counters, conservationGap, createCounterMemory } from '../../../src/dataplane/counters.ts';
import { FrameTable } from '../../../src/dataplane/frame-table.ts';
import { Outbound } from '../../../src/dataplane/outbound.ts';
import { PathState } from '../../../src/dataplane/path-state.ts';
import { PacketBatch, PieceBatch, SEND_DOWN } from '../../../src/dataplane/ports.ts';
import { ForwardingTable } from '../../../src/fib/forwarding-table.ts';
import {
  MemorySink,
  MemorySource,
  MemoryWaiter,
  PlainMemory,
  type SentPacket,
} from '../../../src/io/memory-links.ts';
import type { UnderlayMtu } from '../../../src/ip/mtu.ts';
import { decodeFrame, ipv4Layers } from '../../../src/wire/decode.ts';
import { VIRTIO_NET_HEADER_BYTES } from '../../../src/wire/virtio-net-header.ts';
import { CONFIG, fromTun, PEER } from '../../helpers/memory-direction.ts';
import { tcpPacket, udpPacket } from '../../helpers/packets.ts';

const HEADER = Uint8Array.from([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0]);
const INTERFACE = 7;

/** What the packet socket gets is a virtio-net header and the frame. */
const framed = ({ destination, bytes }: SentPacket) => ({
  destination,
  vnet: bytes.subarray(0, VIRTIO_NET_HEADER_BYTES),
  bytes: bytes.subarray(VIRTIO_NET_HEADER_BYTES),
});

function make(mtu = 1500) {
  const memory = new PlainMemory(4 << 20);
  const source = new MemorySource(memory, new PacketBatch(memory, 8));
  const sink = new MemorySink(memory, new PieceBatch(memory, 64, 128));
  const frameSink = new MemorySink(memory, new PieceBatch(memory, 64, 128));
  const counters = new Counters('outbound', createCounterMemory());
  const time = { now: 5000 };
  const clock = () => time.now;
  const table = new ForwardingTable(clock);
  const peers = CONFIG.peers.map((peer) => ({ ...peer, mtu: mtu as UnderlayMtu }));
  table.replace({ ...CONFIG, peers });
  const frames = new FrameTable();
  frames.set(table.peers.slotOf(PEER), { peer: PEER, interfaceIndex: INTERFACE, header: HEADER });
  const waiter = new MemoryWaiter(source);
  const paths = new PathState(clock);
  const outbound = new Outbound({
    ...{ memory, source, sink, frameSink, frames, waiter, table, paths, counters, clock },
  });
  const send = (...packets: Uint8Array[]) => {
    for (const packet of packets) source.push(packet);
    const before = [sink.sent.length, frameSink.sent.length] as const;
    while (outbound.step() > 0);
    return { raw: sink.sent.slice(before[0]), frames: frameSink.sent.slice(before[1]).map(framed) };
  };
  return { send, time, frameSink, counters, frames };
}

test("the first packet of a second goes the kernel's way, the others as frames", () => {
  const { send, time, counters } = make();
  const packet = fromTun(udpPacket([1, 2, 3]));
  expect(send(packet)).toMatchObject({ raw: [{}], frames: [] });
  const later = send(packet, packet);
  expect(later.raw).toEqual([]);
  expect(later.frames.map(({ destination }) => destination)).toEqual([INTERFACE, INTERFACE]);
  const layers = decodeFrame(later.frames[0]!.bytes);
  expect([...later.frames[0]!.bytes.subarray(0, 14)]).toEqual([...HEADER]);
  expect(ipv4Layers(layers)[0]).toMatchObject({ protocol: 4, checksum: 'ok', dontFragment: true });
  expect(ipv4Layers(layers)[1]).toMatchObject({ protocol: 17 });
  time.now += 1000;
  expect(send(packet, packet)).toMatchObject({ raw: [{}], frames: [{}] });
  expect(counters.snapshot()).toMatchObject({
    outbound_in_device_packets: 5,
    outbound_out_underlay_packets: 5,
    outbound_note_frames_packets: 3,
  });
});

test('each segment of a superpacket is a frame', () => {
  const { send } = make();
  const vnet = [1, 1, 40, 0, 232, 3, 20, 0, 16, 0];
  const superpacket = fromTun(tcpPacket(Array(3000).fill(7), {}, false), vnet);
  send(superpacket);
  const { frames } = send(superpacket);
  expect(frames.map(({ bytes }) => bytes.length)).toEqual([1074, 1074, 1074]);
  for (const { bytes } of frames) {
    expect(ipv4Layers(decodeFrame(bytes)).map(({ checksum }) => checksum)).toEqual(['ok', 'ok']);
    expect(decodeFrame(bytes).find(({ kind }) => kind === 'tcp')).toMatchObject({
      kind: 'tcp',
      checksum: 'ok',
    });
  }
});

test('the kernel is asked for one piece of memory for a frame, unless that would be hard to find', () => {
  const { send } = make(65_535);
  const ofBytes = (bytes: number) => {
    const packet = fromTun(udpPacket(Array(bytes).fill(7)));
    send(packet);
    return send(packet).frames[0]!;
  };
  for (const payload of [1, 1400, 8900, 32_000 - 14 - 20 - 28]) {
    const { vnet, bytes } = ofBytes(payload);
    expect(bytes.length).toBe(14 + 20 + 28 + payload);
    expect([...vnet]).toEqual([0, 0, bytes.length & 0xff, bytes.length >>> 8, 0, 0, 0, 0, 0, 0]);
  }
  expect([...ofBytes(32_000 - 14 - 20 - 28 + 1).vnet]).toEqual(Array(VIRTIO_NET_HEADER_BYTES).fill(0));
});

test('without DF the kernel has to give an id, so such packets never are frames', () => {
  const { send } = make();
  const packet = fromTun(udpPacket([1], { fragment: 0 }));
  send(packet);
  expect(send(packet)).toMatchObject({ raw: [{}], frames: [] });
});

test('an interface that is down ends the way: the packet is counted, the next goes by the raw socket', () => {
  const { send, frameSink, counters } = make();
  const packet = fromTun(udpPacket([1]));
  send(packet);
  frameSink.script.push(SEND_DOWN);
  expect(send(packet)).toEqual({ raw: [], frames: [] });
  expect(send(packet)).toMatchObject({ raw: [{}], frames: [] });
  expect(counters.snapshot()).toMatchObject({ outbound_drop_link_down_packets: 1 });
  expect(conservationGap(counters.snapshot(), 'outbound')).toBe(0);
});
