/**
 * One suite for memory links and the kernel's: what a source gives and a sink takes is the same, whether the
 * other side is an array or a TUN and a raw socket in a namespace. And the errors of a device that cannot be had.
 */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { UnavailableError } from '../../src/base/errors.ts';
import {
  PacketBatch,
  type PacketMemory,
  type PacketSink,
  type PacketSource,
  PieceBatch,
  READY_SOURCE,
  READY_WAKE,
  SEND_NO_ROUTE,
  SEND_OK,
  SEND_TOO_BIG,
} from '../../src/dataplane/ports.ts';
import { Arena } from '../../src/io/arena.ts';
import { systemCalls } from '../../src/io/libc.ts';
import { MemorySink, MemorySource, PlainMemory } from '../../src/io/memory-links.ts';
import { inNetworkNamespace, namedNetworkNamespace } from '../../src/io/netns.ts';
import { MessageSink, MessageSource, openRawReceiver, openRawSender } from '../../src/io/raw-socket.ts';
import { openTun, removeTun, TunSink, TunSource } from '../../src/io/tun.ts';
import { openWakeup, PollWaiter, raiseWakeup } from '../../src/io/waiter.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { hex } from '../helpers/memory-direction.ts';
import { ipv4Packet, udpPacket } from '../helpers/packets.ts';

const NAMESPACE = `tortie-t${process.pid}-lnk`;
const LOCAL = ipv4('10.0.1.11');
const inside = <T>(fn: () => T) => inNetworkNamespace(namedNetworkNamespace(NAMESPACE), fn);
const ip = (...words: string[]) => execFileSync('ip', words, { timeout: 10_000, encoding: 'utf8' });

beforeAll(() => {
  ip('netns', 'add', NAMESPACE);
  ip('-n', NAMESPACE, 'link', 'set', 'lo', 'up');
  ip('-n', NAMESPACE, 'addr', 'add', '10.0.1.11/32', 'dev', 'lo');
});

afterAll(() => {
  ip('netns', 'del', NAMESPACE);
});

/** A sink whose packets come out of a source. `fromSource` cuts off what the way back adds. */
interface Loop {
  readonly memory: PacketMemory;
  readonly sink: PacketSink;
  readonly source: PacketSource;
  /** Moves what the sink took to the source, where the kernel does not do it. */
  readonly carry: () => void;
  readonly close: () => void;
}

function memoryLoop(): Loop {
  const memory = new PlainMemory(2 << 20);
  const sink = new MemorySink(memory, new PieceBatch(memory, 8, 16));
  const source = new MemorySource(memory, new PacketBatch(memory, 8));
  return {
    memory,
    sink,
    source,
    carry: () => {
      for (const { bytes } of sink.sent.splice(0)) source.push(bytes);
    },
    close: () => {},
  };
}

/** Raw sockets of one host: what is sent to its own address comes back by the loopback interface. */
function rawLoop(): Loop {
  const memory = new Arena(2 << 20);
  const [sender, receiver] = inside(() => [openRawSender(), openRawReceiver()] as const);
  return {
    memory,
    sink: new MessageSink(sender, memory, new PieceBatch(memory, 8, 16)),
    source: new MessageSource(receiver, memory, new PacketBatch(memory, 8)),
    carry: () => {},
    close: () => {
      for (const fd of [sender, receiver]) systemCalls().close(fd);
    },
  };
}

async function receiveAll(loop: Loop, wanted: number): Promise<string[]> {
  const got: string[] = [];
  await poll(systemClock, 5000, 5, async () => {
    loop.carry();
    const count = loop.source.receive();
    const { batch } = loop.source;
    for (let i = 0; i < count; i++)
      got.push(hex(loop.memory.bytes.slice(batch.offset(i), batch.offset(i) + batch.length(i))));
    return got.length >= wanted ? true : undefined;
  });
  return got;
}

describe.each([
  ['memory', memoryLoop],
  ['raw sockets', rawLoop],
] as const)('%s', (_name, make) => {
  test('packets gathered from pieces come out whole, in order, in batches', async () => {
    const loop = make();
    try {
      const packets = Array.from({ length: 8 }, (_, i) =>
        ipv4Packet(4, [...udpPacket([...Array(i * 50).keys()].map((n) => n & 255))], {
          source: LOCAL,
          destination: LOCAL,
          id: 1 + i,
        }),
      );
      const { batch } = loop.sink;
      for (const packet of packets) {
        const at = loop.memory.allocate(packet.length + 8);
        loop.memory.bytes.set(packet, at);
        batch.addPiece(at, 20);
        batch.addPiece(at + 20, packet.length - 20);
        batch.endPacket(LOCAL);
      }
      expect(loop.source.receive()).toBe(0);
      expect(loop.sink.send(0)).toBe(8);
      expect(loop.sink.failure).toBe(SEND_OK);
      expect(await receiveAll(loop, 8)).toEqual(packets.map(hex));
      expect(loop.source.receive()).toBe(0);
    } finally {
      loop.close();
    }
  });
});

test('a raw sink says why a packet does not leave, and goes on behind it', () => {
  const loop = rawLoop();
  try {
    const packet = ipv4Packet(4, [...udpPacket([1])], { source: 0, destination: LOCAL });
    const at = loop.memory.allocate(70_000);
    loop.memory.bytes.set(packet, at);
    const { batch } = loop.sink;
    ip('-n', NAMESPACE, 'link', 'set', 'lo', 'mtu', '1500');
    for (const [destination, length] of [
      [LOCAL, packet.length],
      [ipv4('203.0.113.9'), packet.length],
      [LOCAL, 1600],
      [LOCAL, packet.length],
    ] as const) {
      batch.addPiece(at, length);
      batch.endPacket(destination);
    }
    expect([loop.sink.send(0), loop.sink.failure]).toEqual([1, SEND_NO_ROUTE]);
    expect([loop.sink.send(2), loop.sink.failure]).toEqual([0, SEND_TOO_BIG]);
    expect([loop.sink.send(3), loop.sink.failure]).toEqual([1, SEND_OK]);
  } finally {
    loop.close();
  }
});

test('a TUN gives what is routed into it behind ten zero bytes, and takes pieces', async () => {
  const memory = new Arena(2 << 20);
  const tun = inside(() => openTun('tort0', 'none'));
  const source = new TunSource(tun.queues[0]!, memory, new PacketBatch(memory, 4));
  const sink = new TunSink(tun.writer, memory, new PieceBatch(memory, 4, 8));
  try {
    ip('netns', 'exec', NAMESPACE, 'sysctl', '-qw', 'net.ipv6.conf.tort0.disable_ipv6=1');
    ip('-n', NAMESPACE, 'link', 'set', 'tort0', 'up');
    ip('-n', NAMESPACE, 'route', 'add', '192.168.7.0/24', 'dev', 'tort0', 'src', '10.0.1.11');
    const request = ipv4Packet(1, [8, 0, 0xf7, 0xfd, 0, 1, 0, 1], {
      source: ipv4('192.168.7.1'),
      destination: LOCAL,
    });
    const at = memory.allocate(64);
    memory.bytes.set(request, at + 10);
    sink.batch.addPiece(at, 10 + 20);
    sink.batch.addPiece(at + 30, 8);
    sink.batch.endPacket(0);
    expect(sink.send(0)).toBe(1);
    const count = await poll(systemClock, 5000, 5, async () => source.receive() || undefined);
    expect(count).toBe(1);
    const start = source.batch.offset(0);
    const reply = memory.bytes.slice(start, start + source.batch.length(0));
    expect([...reply.slice(0, 10)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect([reply[10 + 9], hex(reply.slice(22, 26)), reply[30]]).toEqual([1, '0a00010b', 0]);
    // The host answers both at once; who asks for one gets one, and the other is still there.
    for (let i = 0; i < 2; i++) expect(sink.send(0)).toBe(1);
    expect([source.receive(1), source.receive(), source.receive()]).toEqual([1, 1, 0]);
  } finally {
    systemCalls().close(tun.writer);
    inside(() => removeTun('tort0'));
  }
  expect(ip('-n', NAMESPACE, 'link')).not.toContain('tort0');
});

test('a waiter tells packets and wake-ups apart, and takes a wake-up back', () => {
  const memory = new Arena(1 << 16);
  const receiver = inside(openRawReceiver);
  const wakeup = openWakeup();
  const waiter = new PollWaiter(memory, { wakeup, sources: [-1, receiver], sinks: [receiver] });
  const scratch = memory.allocate(8);
  raiseWakeup(wakeup, memory, scratch);
  raiseWakeup(wakeup, memory, scratch);
  expect(waiter.wait()).toBe(READY_WAKE);
  const loop = rawLoop();
  const at = loop.memory.allocate(64);
  const packet = ipv4Packet(4, [1, 2, 3], { source: LOCAL, destination: LOCAL });
  loop.memory.bytes.set(packet, at);
  loop.sink.batch.addPiece(at, packet.length);
  loop.sink.batch.endPacket(LOCAL);
  expect(loop.sink.send(0)).toBe(1);
  expect(waiter.wait()).toBe(READY_SOURCE << 1);
  waiter.setSource(1, -1);
  expect(waiter.wait(0)).toBe(0);
  waiter.setSource(1, receiver);
  expect(waiter.wait()).toBe(READY_SOURCE << 1);
  expect(waiter.waitForSink(10, 0)).toBe(true);
  expect(waiter.wasQuiet).toBe(false);
  waiter.setSource(1, -1);
  const sleptMs = waiter.sleptMs;
  expect(waiter.wait(5)).toBe(0);
  expect(waiter.wasQuiet).toBe(true);
  expect(waiter.sleptMs - sleptMs).toBeGreaterThan(4);
  loop.close();
  for (const fd of [receiver, wakeup]) systemCalls().close(fd);
});

/** Runs `openTun` in a process without a capability; what it throws, as JSON. */
function withoutCapability(capability: string, call: string): { code: string; exitCode: number } {
  const script = `
    const { openTun } = await import('${import.meta.dirname}/../../dist/io/tun.js');
    const { openRawReceiver } = await import('${import.meta.dirname}/../../dist/io/raw-socket.js');
    try { ${call}; console.log('{}'); } catch (e) { console.log(JSON.stringify({ code: e.code, exitCode: e.exitCode })); }`;
  const words = [
    'netns',
    'exec',
    NAMESPACE,
    'setpriv',
    `--bounding-set=-${capability}`,
    `--inh-caps=-${capability}`,
  ];
  return JSON.parse(ip(...words, process.execPath, '--input-type=module', '-e', script));
}

test('a device made for one queue cannot have several, nor the reverse, and nobody shares it', () => {
  const attempt = (queues: number) => {
    try {
      const tun = inside(() => openTun('tort6', 'tcp+udp', queues));
      for (const fd of new Set([...tun.queues, tun.writer])) systemCalls().close(fd);
      return tun.queues.length;
    } catch (error) {
      const { code, exitCode, message, hint } = error as UnavailableError;
      return [code, exitCode, message, hint];
    }
  };
  const refused = (how: string) => [
    'ERR_DEVICE_QUEUES',
    4,
    expect.stringContaining(how),
    expect.stringContaining('ip link delete tort6'),
  ];
  expect(attempt(1)).toBe(1);
  expect(attempt(2)).toEqual(refused('made for one queue'));
  ip('-n', NAMESPACE, 'link', 'delete', 'tort6');
  expect(attempt(3)).toBe(3);
  expect(attempt(1)).toEqual(refused('made for several queues'));
  ip('-n', NAMESPACE, 'link', 'set', 'tort6', 'up');
  const held = inside(() => openTun('tort6', 'tcp+udp', 2));
  expect(attempt(2)).toEqual(['ERR_DEVICE_BUSY', 4, expect.anything(), expect.anything()]);
  for (const fd of [...held.queues, held.writer]) systemCalls().close(fd);
  expect(attempt(4)).toBe(4);
  ip('-n', NAMESPACE, 'link', 'delete', 'tort6');
});

test('what keeps a device from us is told apart, each with exit status 4', () => {
  const held = inside(() => openTun('tort1', 'tcp+udp'));
  ip('-n', NAMESPACE, 'link', 'add', 'tort2', 'type', 'veth', 'peer', 'name', 'tort3');
  try {
    const failure = (name: string, queues = 1) => {
      try {
        systemCalls().close(inside(() => openTun(name, 'none', queues)).writer);
      } catch (error) {
        return error instanceof UnavailableError ? [error.code, error.exitCode] : error;
      }
      return undefined;
    };
    expect(failure('tort1')).toEqual(['ERR_DEVICE_BUSY', 4]);
    expect(failure('tort1', 2)).toEqual(['ERR_DEVICE_QUEUES', 4]);
    expect(failure('tort2')).toEqual(['ERR_DEVICE_TAKEN', 4]);
    expect(failure('tort2', 2)).toEqual(['ERR_DEVICE_TAKEN', 4]);
    expect(failure('a name with spaces')).toEqual(['ERR_DEVICE_NAME', 4]);
  } finally {
    systemCalls().close(held.writer);
  }
  expect(withoutCapability('net_admin', "openTun('tort4', 'none')")).toEqual({
    code: 'ERR_PRIVILEGE',
    exitCode: 4,
  });
  expect(withoutCapability('net_raw', 'openRawReceiver()')).toEqual({ code: 'ERR_PRIVILEGE', exitCode: 4 });
});
