/**
 * A tunnel whose device has two queues (`--queues 2`): many flows at once come back whole and in order, each flow stays
 * with its queue however its answers come in, and what a router says of the way holds for all of them.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { MAIN } from '../helpers/small-cloud.ts';
import { address, inner, TunnelHosts, type TunnelProcess } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('mq');
const QUEUES = 2;
/** So many that no hash puts them all into one queue. */
const FLOWS = 32;
const NUMBERS = 100;
const STREAMS = 4;
const running: TunnelProcess[] = [];

beforeAll(() => hosts.up());
afterAll(() => hosts.down());

/** What was served stops as it should, also with further threads; the device stays. */
afterEach(async () => {
  for (const { process: child, ended, log } of running.splice(0)) {
    child.kill('SIGTERM');
    expect(await ended, log()).toBe(0);
  }
});

async function serve(...words: string[]): Promise<void> {
  for (const [host, other, own] of [
    ['a', 'b', ['--local', address('a'), '--queues', String(QUEUES)]],
    ['b', 'a', []],
  ] as const) {
    running.push(await hosts.serve(host, ...own, ...words));
    hosts.configure(host, other);
    await hosts.until(host, 'its route is in force', (status) => status.entries === 1);
  }
}

const queues = async () => (await hosts.status('a'))!.queues;

/** Packets by each queue while something is done. */
async function byQueue(doIt: () => Promise<void> | void): Promise<number[]> {
  const before = await queues();
  await doIt();
  return (await queues()).map((count, i) => count - before[i]!);
}

/** Gives back what it gets, on b. */
const ECHO = `
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (message, from) => udp.send(message, from.port, from.address));
  const tcp = require('node:net').createServer((socket) => socket.pipe(socket));
  udp.bind(9, '${inner('b')}', () => tcp.listen(9, '${inner('b')}', () => console.log('ready')));`;

/**
 * On a: flows of numbered datagrams, of each eight on their way, and streams of TCP meanwhile. Prints the numbers that
 * came back, flow by flow, and of how many streams all did; ends when that is all, or nothing has come for 5 s.
 */
const ASKER = `
  const [flows, count, streams] = process.argv.slice(1).map(Number);
  const numbers = Array.from({ length: flows }, () => []);
  let [open, whole] = [flows + streams, 0];
  const end = () => { console.log(JSON.stringify({ numbers, whole })); process.exit(); };
  let silence;
  const alive = () => { clearTimeout(silence); silence = setTimeout(end, 5000); };
  const done = () => { if (--open === 0) end(); };
  const sent = Buffer.alloc(1 << 20).map((_, i) => (i * 7 + (i >> 8)) & 255);
  alive();
  for (const got of numbers) {
    const socket = require('node:dgram').createSocket('udp4');
    let next = 0;
    const send = () => {
      const message = Buffer.alloc(64);
      message.writeUInt32BE(next++);
      socket.send(message, 9, '${inner('b')}');
    };
    socket.on('message', (message) => {
      alive();
      got.push(message.readUInt32BE());
      if (next < count) send();
      if (got.length === count) done();
    });
    socket.bind(0, '${inner('a')}', () => { for (let i = 0; i < 8 && i < count; i++) send(); });
  }
  for (let i = 0; i < streams; i++) {
    const parts = [];
    const socket = require('node:net').connect({ host: '${inner('b')}', port: 9, localAddress: '${inner('a')}' });
    socket.on('data', (data) => { alive(); parts.push(data); });
    socket.on('end', () => { if (Buffer.concat(parts).equals(sent)) whole++; done(); });
    socket.end(sent);
  }`;

interface Answer {
  readonly numbers: readonly (readonly number[])[];
  readonly whole: number;
}

async function ask(flows: number, streams: number): Promise<Answer> {
  const script = [process.execPath, '-e', ASKER, ...[flows, NUMBERS, streams].map(String)];
  const asker = spawn('ip', ['netns', 'exec', hosts.namespace('a'), ...script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 30_000,
  });
  let text = '';
  for await (const chunk of asker.stdout.setEncoding('utf8')) text += chunk;
  return JSON.parse(text) as Answer;
}

async function withEcho(use: () => Promise<void>): Promise<void> {
  const words = ['netns', 'exec', hosts.namespace('b'), process.execPath, '-e', ECHO];
  const echo = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 });
  try {
    const lines = createInterface({ input: echo.stdout })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe('ready');
    await use();
  } finally {
    echo.kill('SIGKILL');
  }
}

function expectInOrder({ numbers, whole }: Answer, flows: number, streams: number): void {
  expect(whole).toBe(streams);
  expect(numbers).toHaveLength(flows);
  for (const flow of numbers) expect(flow).toEqual([...new Set(flow)].sort((a, b) => a - b));
  // A full buffer on a busy machine may cost some.
  expect(numbers.flat().length).toBeGreaterThan((flows * NUMBERS) / 2);
}

// The second device is adopted: it was made for several queues before.
test.each([
  'ipip',
  'udp',
])('by %s flows are spread over the queues, whole and in order both ways', async (transport) => {
  await serve('--transport', transport);
  await withEcho(async () => {
    const spread = await byQueue(async () => expectInOrder(await ask(FLOWS, STREAMS), FLOWS, STREAMS));
    expect(spread).toHaveLength(QUEUES);
    for (const packets of spread) expect(packets).toBeGreaterThan(NUMBERS / 2);
    const ofOneFlow = await byQueue(async () => expectInOrder(await ask(1, 0), 1, 0));
    expect(Math.min(...ofOneFlow)).toBe(0);
  });
  expect(await hosts.gaps()).toEqual({});
  const runDirectory = `TORTIE_RUN_DIR=${hosts.runDirectory('a')}`;
  const page = hosts.run('a', 'env', runDirectory, process.execPath, MAIN, 'tunnel', 'status');
  expect(page).toMatch(/Queues: +2, by which came \d+, \d+ packets/);
});

test('the path MTU that a router tells holds for the packets of every queue, and each report is counted once', async () => {
  await serve();
  hosts.ip('r', 'link set to-b mtu 1400');
  const probe = 'ping -n -M do -c 1 -W 2 -s 1440';
  // Larger than the way takes, smaller than the device: it leaves, and the router says what fits.
  hosts.run('a', 'sh', '-c', `${probe} ${inner('b')} || true`);
  await hosts.until('a', 'it has heard of it', ({ peers }) =>
    peers.some((peer) => peer.address === address('b') && peer.pathMtu === 1400),
  );
  // A status is as new as the routes before it, which are in force when every thread has answered; what came before
  // the first of two changes has been read by then.
  for (const route of ['203.0.113.0/24', '198.51.100.0/24']) {
    hosts.ip('a', `route add ${route} via ${address('b')} dev tunl0 onlink`);
    await hosts.status('a');
  }
  const before = (await hosts.status('a'))!.counters;
  expect(before.outbound_note_icmp_errors_packets).toBe(1);
  expect(before.outbound_reply_fragmentation_needed_packets).toBe(1);
  const others = `for i in $(seq 1 ${FLOWS}); do ${probe} 192.168.2.$i & done; wait`;
  const spread = await byQueue(async () => {
    hosts.run('a', 'sh', '-c', others);
    const all = before.outbound_drop_too_big_packets! + FLOWS;
    await hosts.until('a', 'all are counted', (s) => s.counters.outbound_drop_too_big_packets! >= all);
  });
  for (const packets of spread) expect(packets).toBeGreaterThan(0);
  const after = (await hosts.status('a'))!.counters;
  const grown = (name: string) => after[`outbound_${name}_packets`]! - before[`outbound_${name}_packets`]!;
  expect([grown('drop_too_big'), grown('out_underlay'), grown('drop_link_mtu')]).toEqual([FLOWS, 0, 0]);
});
