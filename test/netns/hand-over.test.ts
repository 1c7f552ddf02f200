/**
 * The inbound direction changes threads under real load: one host sends as fast as it can, which saturates its first
 * packet thread, and meanwhile gets numbered datagrams.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../helpers/small-cloud.ts';
import { type Host, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('ho');
/** Only who gets a processor can use one up, or bring another to: here all of it goes before what else the machine does. */
const URGENT = ['nice', '-n', '-10'] as const;
const FLOOD_SECONDS = 30;

beforeAll(async () => {
  hosts.up();
  for (const [host, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    await hosts.serveBy(host, URGENT);
    hosts.configure(host, other);
    await hosts.until(host, 'its route is in force', (status) => status.entries === 1);
  }
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
});

afterAll(() => hosts.down());

const handOvers = async () => (await hosts.status('b'))!.counters.inbound_note_hand_overs!;

/** Keeps the number in each datagram that arrives on b; prints them at the end of its input. */
const RECEIVER = `
  const socket = require('node:dgram').createSocket('udp4');
  const numbers = [];
  socket.on('message', (message) => numbers.push(message.readUInt32BE()));
  process.stdin.on('end', () => { console.log(JSON.stringify(numbers)); socket.close(); }).resume();
  socket.bind(9, '${inner('b')}', () => console.log('ready'));`;

/** A thousand a second, more or less, until the end of its input; prints how many. */
const SENDER = `
  const socket = require('node:dgram').createSocket('udp4');
  let number = 0;
  console.log('ready');
  const timer = setInterval(() => {
    for (let i = 0; i < 2; i++) {
      const message = Buffer.alloc(64);
      message.writeUInt32BE(number++);
      socket.send(message, 9, '${inner('b')}');
    }
  }, 2);
  const end = () => { clearInterval(timer); socket.close(() => console.log(number)); };
  process.stdin.on('end', () => setTimeout(end, 100)).resume();`;

/** A program on a host: what it prints, line by line, and the end of its input. */
function program(host: Host, ...words: string[]) {
  const child = spawn('ip', ['netns', 'exec', hosts.namespace(host), ...URGENT, ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: 60_000,
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { child, line: async () => (await lines.next()).value as string, end: () => child.stdin.end() };
}

test('a busy host gives inbound a thread of its own and takes it back, and no datagram is doubled or overtaken', async () => {
  const before = await handOvers();
  const receiver = program('b', process.execPath, '-e', RECEIVER);
  expect(await receiver.line()).toBe('ready');
  hosts.run('a', ...URGENT, 'iperf3', '-s', '-1', '-D');
  await eventually('iperf3 listens', async () =>
    hosts.run('a', 'ss', '-Hltn').includes(':5201') ? true : undefined,
  );
  const sender = program('a', process.execPath, '-e', SENDER);
  expect(await sender.line()).toBe('ready');
  const flags = ['-u', '-b', '0', '-l', '64', '-t', String(FLOOD_SECONDS)];
  const flood = program('b', 'iperf3', '-c', inner('a'), ...flags);
  await eventually('inbound goes to the second thread', async () =>
    (await handOvers()) > before ? true : undefined,
  );
  flood.child.kill();
  await eventually('inbound comes back', async () => ((await handOvers()) % 2 === 0 ? true : undefined));
  sender.end();
  const sent = Number(await sender.line());
  // Behind the last of them.
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
  receiver.end();
  const numbers = JSON.parse(await receiver.line()) as number[];
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  // The flood may keep some from their receiver; most arrive.
  expect(numbers.length).toBeGreaterThan(sent / 2);
  expect(await hosts.gaps()).toEqual({});
});
