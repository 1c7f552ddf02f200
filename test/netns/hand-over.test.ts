/**
 * The inbound direction changes threads under real load: one host sends as fast as it can, which saturates its first
 * packet thread, and meanwhile gets numbered datagrams.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../helpers/small-cloud.ts';
import { inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('ho');
const FLOOD_SECONDS = 1.5;
const NUMBERED = 2000;

beforeAll(async () => {
  hosts.up();
  for (const [host, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    // Only who gets a processor can use one up; here four busy programs share two.
    await hosts.serveBy(host, ['nice', '-n', '-10']);
    hosts.configure(host, other);
    await hosts.until(host, 'its route is in force', (status) => status.entries === 1);
  }
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
});

afterAll(() => hosts.down());

const handOvers = async () => (await hosts.status('b'))!.counters.inbound_note_hand_overs!;

/** Prints the number in each datagram that arrives on b, and ends after none came for a second. */
const RECEIVER = `
  const socket = require('node:dgram').createSocket('udp4');
  const numbers = [];
  let last;
  socket.on('message', (message) => {
    numbers.push(message.readUInt32BE());
    clearTimeout(last);
    last = setTimeout(() => { console.log(JSON.stringify(numbers)); socket.close(); }, 1000);
  });
  socket.bind(9, '${inner('b')}', () => console.log('ready'));`;

/** A thousand a second, more or less: all of the flood, and a while after it. */
const SENDER = `
  const socket = require('node:dgram').createSocket('udp4');
  let number = 0;
  const timer = setInterval(() => {
    for (let i = 0; i < 2 && number < ${NUMBERED}; i++) {
      const message = Buffer.alloc(64);
      message.writeUInt32BE(number++);
      socket.send(message, 9, '${inner('b')}');
    }
    if (number === ${NUMBERED}) { clearInterval(timer); setTimeout(() => socket.close(), 100); }
  }, 2);`;

test('a busy host gives inbound a thread of its own and takes it back, and no datagram is doubled or overtaken', async () => {
  const before = await handOvers();
  const receiver = spawn('ip', ['netns', 'exec', hosts.namespace('b'), process.execPath, '-e', RECEIVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 30_000,
  });
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  hosts.run('a', 'iperf3', '-s', '-1', '-D');
  await eventually('iperf3 listens', async () =>
    hosts.run('a', 'ss', '-Hltn').includes(':5201') ? true : undefined,
  );
  const sender = spawn('ip', ['netns', 'exec', hosts.namespace('a'), process.execPath, '-e', SENDER], {
    stdio: 'ignore',
    timeout: 30_000,
  });
  const flood = ['-c', inner('a'), '-u', '-b', '0', '-l', '64', '-t', String(FLOOD_SECONDS)];
  hosts.run('b', 'timeout', '30', 'iperf3', ...flood);
  const numbers = JSON.parse((await lines.next()).value as string) as number[];
  expect(sender.exitCode ?? 0).toBe(0);
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  // The flood's sender and receiver may keep a from sending all of them in time; most arrive.
  expect(numbers.length).toBeGreaterThan(NUMBERED / 2);
  await eventually('inbound went to the second thread and came back', async () => {
    const count = await handOvers();
    return count - before >= 2 && count % 2 === 0 ? true : undefined;
  });
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
  expect(await hosts.gaps()).toEqual({});
});
