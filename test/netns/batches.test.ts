/**
 * System calls per packet, without a clock: a host's agent is stopped, packets pile up before it, and it is let
 * go. What it does with the pile is the same on every machine: full batches, and few calls.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../helpers/small-cloud.ts';
import { type Host, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const DATAGRAMS = 512;
/** What one receive takes, and what the kernel takes as one UDP superpacket. */
const BATCH_PACKETS = 64;
/** Batches that may be short: the first, the last, and other people's packets. */
const SHORT_BATCHES = 6;
const STREAM_BYTES = 32 << 20;

const hosts = new TunnelHosts('ba');
const pid: Record<string, number> = {};

beforeAll(async () => {
  hosts.up();
  for (const [host, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    pid[host] = (await hosts.serve(host)).process.pid!;
    hosts.configure(host, other);
    await hosts.until(host, 'its route is in force', (status) => status.entries === 1);
  }
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
});

afterAll(async () => {
  for (const one of Object.values(pid)) process.kill(one, 'SIGCONT');
  await hosts.down();
});

/** Read-like and write-like calls of the packet threads: those on the TUN (recvmmsg and sendmmsg are not among them). */
function tunCalls(host: Host): { reads: number; writes: number } {
  const tasks = `/proc/${pid[host]}/task`;
  const packetThreads = readdirSync(tasks).filter((id) =>
    ['packets', 'inbound'].includes(readFileSync(`${tasks}/${id}/comm`, 'utf8').trim()),
  );
  expect(packetThreads).toHaveLength(2);
  const io = packetThreads.map((id) => readFileSync(`${tasks}/${id}/io`, 'utf8'));
  const count = (name: string) =>
    io.reduce((sum, one) => sum + Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(one)![1]), 0);
  return { reads: count('syscr'), writes: count('syscw') };
}

const counter = async (host: Host, name: string) => (await hosts.status(host))!.counters[name] ?? 0;

/** 512 datagrams of one flow from a to b. */
function sendDatagrams(): void {
  const program = `
    const socket = require('node:dgram').createSocket('udp4');
    let left = ${DATAGRAMS};
    const next = () => left-- > 0 ? socket.send(Buffer.alloc(64), 9, '${inner('b')}', next) : socket.close();
    next();`;
  hosts.run('a', process.execPath, '-e', program);
}

/** Waits until `name` of `host` has grown by the datagrams. */
async function untilGrown(host: Host, name: string, from: number): Promise<void> {
  await eventually(`${host}: ${name} has grown by ${DATAGRAMS}`, async () =>
    (await counter(host, name)) >= from + DATAGRAMS ? true : undefined,
  );
}

test('inbound: what waits is received in full batches, and a run of datagrams is one write', async () => {
  const before = await counter('b', 'inbound_in_underlay_batches');
  const packets = await counter('b', 'inbound_in_underlay_packets');
  const sent = await counter('a', 'outbound_out_underlay_packets');
  const { writes } = tunCalls('b');
  process.kill(pid.b!, 'SIGSTOP');
  sendDatagrams();
  await untilGrown('a', 'outbound_out_underlay_packets', sent);
  process.kill(pid.b!, 'SIGCONT');
  await untilGrown('b', 'inbound_in_underlay_packets', packets);
  const batches = (await counter('b', 'inbound_in_underlay_batches')) - before;
  expect(batches).toBeLessThanOrEqual(DATAGRAMS / BATCH_PACKETS + SHORT_BATCHES);
  expect(tunCalls('b').writes - writes).toBeLessThanOrEqual(DATAGRAMS / BATCH_PACKETS + SHORT_BATCHES);
});

test('outbound: what waits is read to the end, and leaves by one call a batch', async () => {
  const before = await counter('a', 'outbound_in_device_batches');
  const sent = await counter('a', 'outbound_out_underlay_packets');
  const { reads } = tunCalls('a');
  process.kill(pid.a!, 'SIGSTOP');
  sendDatagrams();
  process.kill(pid.a!, 'SIGCONT');
  await untilGrown('a', 'outbound_out_underlay_packets', sent);
  const batches = (await counter('a', 'outbound_in_device_batches')) - before;
  expect(batches).toBeLessThanOrEqual(DATAGRAMS / BATCH_PACKETS + SHORT_BATCHES);
  // A TUN gives one packet a read; each batch may find the end once, and the loop once more.
  expect(tunCalls('a').reads - reads).toBeLessThanOrEqual(DATAGRAMS + 3 * batches);
});

test('a stream costs its sender a call for ten packets at most', async () => {
  const { reads } = tunCalls('a');
  const [batches, packets] = [
    await counter('a', 'outbound_in_device_batches'),
    await counter('a', 'outbound_in_device_packets'),
  ];
  const server = hosts.run('b', 'iperf3', '-s', '-1', '-D');
  expect(server).toBe('');
  await eventually('iperf3 listens', async () =>
    hosts.run('b', 'ss', '-Hltn').includes(':5201') ? true : undefined,
  );
  hosts.run('a', 'timeout', '30', 'iperf3', '-c', inner('b'), '-n', String(STREAM_BYTES));
  const calls = tunCalls('a').reads - reads + (await counter('a', 'outbound_in_device_batches')) - batches;
  const sent = (await counter('a', 'outbound_in_device_packets')) - packets;
  // iperf3 ends once all is written: some MB may still lie in its socket's buffer.
  expect(sent).toBeGreaterThan(STREAM_BYTES / 2 / 1500);
  expect(calls / sent).toBeLessThan(0.1);
  expect(await hosts.gaps()).toEqual({});
});
