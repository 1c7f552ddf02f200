/**
 * Streams for a while, one and many, one way and both at once: no second without a byte, counters conserved and the
 * same on both sides of the underlay, memory flat. Three seconds of four streams both ways here; in scripts/soak a
 * minute of each, beside fastd where it is installed (TORTIE_TEST_SUSTAINED_SECONDS). Prints a table: transport,
 * streams, way, Gbit/s, retransmissions, MB in the worst second, the kernel's drops before an agent's receive (a, b)
 * and in the queue of its device, the agents' own, growth of resident memory and of the heap in MB.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { fastd } from '../../src/bench/peers.ts';
import { TortieContender } from '../../src/bench/tortie.ts';
import { end, HOSTS, type Host, other, TwoHosts } from '../../src/bench/two-hosts.ts';
import { conservationGap } from '../../src/dataplane/counters.ts';

const SECONDS = Number(process.env.TORTIE_TEST_SUSTAINED_SECONDS ?? 3);
const LONG = SECONDS >= 30;
/** Memory is compared from here on: until then the optimizer is at work. */
const WARM_SECONDS = LONG ? 10 : 1;
/** fastd needs no minute to lose more. */
const FASTD_SECONDS = 10;
const GRACE_MS = 30_000;
const METRICS = '127.0.0.1:9099';
const RSS_GROWTH_BYTES = 16 << 20;
const HEAP_GROWTH_BYTES = 8 << 20;
/** On the underlay beside what the tunnel sends: address resolution. */
const OTHER_FRAMES = 50;

const WAYS = { 'a to b': [], 'b to a': ['--reverse'], both: ['--bidir'] } as const;
type Way = keyof typeof WAYS;
const CASES: readonly (readonly [number, Way])[] = LONG
  ? [1, 4, 16].flatMap((streams) => (Object.keys(WAYS) as Way[]).map((way) => [streams, way] as const))
  : [[4, 'both']];

interface Sum {
  readonly seconds: number;
  readonly bytes: number;
  readonly retransmits?: number;
}

interface Report {
  readonly intervals: readonly { readonly sum: Sum; readonly sum_bidir_reverse?: Sum }[];
  readonly end: Readonly<
    Record<
      'sum_sent' | 'sum_received' | 'sum_sent_bidir_reverse' | 'sum_received_bidir_reverse',
      Sum | undefined
    >
  >;
  readonly error?: string;
}

async function iperf(
  hosts: TwoHosts,
  target: string,
  seconds: number,
  words: readonly string[],
): Promise<Report> {
  const server = hosts.start('b', ['iperf3', '--server', '--one-off', '--forceflush']);
  try {
    await poll(systemClock, 10_000, 10, async () => (/listening/.test(server.log()) ? true : undefined));
    const client = ['iperf3', '--client', target, '--time', `${seconds}`, '--json', ...words];
    const text = await hosts.run('a', [...client, '--connect-timeout', '10000'], seconds * 1000 + GRACE_MS);
    const report = JSON.parse(text) as Report;
    expect(report.error).toBeUndefined();
    return report;
  } finally {
    await end(server.process);
  }
}

const retransmitsOf = ({ end: { sum_sent, sum_sent_bidir_reverse } }: Report) =>
  (sum_sent?.retransmits ?? 0) + (sum_sent_bidir_reverse?.retransmits ?? 0);

const gigabitsOf = ({ end: { sum_received: one, sum_received_bidir_reverse: other } }: Report) =>
  [one, other].flatMap((sum) => (sum ? [((sum.bytes * 8) / sum.seconds / 1e9).toFixed(2)] : [])).join(' + ');

/** Bytes of the worst whole second, in one direction. */
function leastBytes({ intervals }: Report): number {
  const sums = intervals.flatMap(({ sum, sum_bidir_reverse: reverse }) => (reverse ? [sum, reverse] : [sum]));
  return Math.min(...sums.filter(({ seconds }) => seconds > 0.9).map(({ bytes }) => bytes));
}

/** What the kernel has dropped on the way to host `to`: at the sockets of its agent, and on the links. */
async function kernelDrops(hosts: TwoHosts, to: Host): Promise<number> {
  const rows = async (file: string) =>
    (await hosts.run(to, ['cat', `/proc/net/${file}`])).split('\n').map((line) => line.trim().split(/\s+/));
  // Two raw sockets see protocol 4, and one of them takes nothing (it keeps ICMP errors away): its drops are all packets.
  const raw = (await rows('raw')).filter((row) => row[1]?.endsWith(':0004')).map((row) => Number(row.at(-1)));
  const datagrams = (await rows('udp'))
    .filter((row) => row[1]?.endsWith(':15B3'))
    .map((row) => Number(row.at(-1)));
  let links = 0;
  for (const [part, link] of [
    ['r', `to-${other(to)}`],
    ['r', `to-${to}`],
    [to, 'eth0'],
  ] as const) {
    const { rx, tx } = await linkStatistics(hosts, part, link);
    links += rx.dropped + tx.dropped;
  }
  return (raw.length > 0 ? Math.min(...raw) : 0) + datagrams.reduce((sum, each) => sum + each, 0) + links;
}

type LinkCounts = Readonly<Record<'packets' | 'bytes' | 'dropped', number>>;

async function linkStatistics(hosts: TwoHosts, part: Host | 'r', link: string) {
  const text = await hosts.run(part, ['ip', '-s', '-j', 'link', 'show', link]);
  return (JSON.parse(text) as [{ stats64: Record<'rx' | 'tx', LinkCounts> }])[0].stats64;
}

const dropsOf = (counters: Readonly<Record<string, number>>) =>
  Object.entries(counters)
    .filter(([name]) => name.includes('_drop_'))
    .reduce((sum, [, count]) => sum + count, 0);

/** Segments that it sent again in a second, by streams and way: its runs are shorter than ours. */
const fastdRetransmits = new Map<string, number>();
const hasFastd = (process.env.PATH ?? '').split(':').some((directory) => existsSync(`${directory}/fastd`));

describe.runIf(LONG && hasFastd)('fastd', () => {
  const hosts = new TwoHosts('sf', 1500);
  let target = '';
  beforeAll(async () => {
    await hosts.up();
    target = await fastd.start(hosts);
  });
  afterAll(() => hosts.close());

  test.each(CASES)('%i streams, %s', async (streams, way) => {
    const report = await iperf(hosts, target, FASTD_SECONDS, ['--parallel', `${streams}`, ...WAYS[way]]);
    fastdRetransmits.set(`${streams} ${way}`, retransmitsOf(report) / FASTD_SECONDS);
    console.log(
      `| fastd, ${FASTD_SECONDS} s | ${streams} | ${way} | ${gigabitsOf(report)} | ${retransmitsOf(report)} |`,
    );
  });
});

describe.each(['ipip', 'udp'] as const)('%s', (transport) => {
  const hosts = new TwoHosts(`s${transport}`, 1500);
  const tortie = new TortieContender({
    name: transport,
    flags: ['--transport', transport, '--fast-path', 'off', '--metrics', METRICS],
  });
  let target = '';
  beforeAll(async () => {
    await hosts.up();
    target = await tortie.start(hosts);
  });
  afterAll(async () => {
    await hosts.close();
    await tortie.remove();
  });

  /** Resident memory of the process, and the heap of its main thread, in bytes. */
  async function memory(host: Host): Promise<{ rss: number; heap: number }> {
    const script = `fetch('http://${METRICS}/metrics').then(async (answer) => console.log(await answer.text()))`;
    const text = await hosts.run(host, [process.execPath, '-e', script]);
    const heap = Number(/^nodejs_heap_size_used_bytes (\S+)/m.exec(text)?.[1]);
    const status = readFileSync(`/proc/${tortie.processes[host]!.process.pid}/status`, 'utf8');
    return { rss: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024, heap };
  }

  async function memoryOfBoth() {
    const [a, b] = await Promise.all([memory('a'), memory('b')]);
    return { a, b };
  }

  const counters = async (host: Host) => (await tortie.status(host, 1500))!.counters;

  /** Counters of both, when no packet is on its way any more: in = out + drops everywhere, and nothing moves. */
  async function settled(): Promise<Record<Host, Record<string, number>>> {
    let before = '';
    const found = await poll(systemClock, 10_000, 100, async () => {
      const now = { a: await counters('a'), b: await counters('b') };
      const same = JSON.stringify(now) === before;
      before = JSON.stringify(now);
      return same ? now : undefined;
    });
    expect(found, 'the counters of an idle tunnel stand still').toBeDefined();
    return found as Record<Host, Record<string, number>>;
  }

  /** Since the start: in each agent's receive buffer and on the way there, and in the queue of each device. */
  async function dropsOfKernel(): Promise<number[]> {
    const devices = await Promise.all(HOSTS.map((host) => linkStatistics(hosts, host, 'tunl0')));
    return [
      await kernelDrops(hosts, 'a'),
      await kernelDrops(hosts, 'b'),
      ...devices.map(({ tx }) => tx.dropped),
    ];
  }

  test.each(CASES)('%i streams, %s', async (streams, way) => {
    const droppedBefore = await dropsOfKernel();
    const traffic = iperf(hosts, target, SECONDS, ['--parallel', `${streams}`, ...WAYS[way]]);
    // So that it is not unhandled while memory is looked at.
    traffic.catch(() => {});
    await systemClock.sleep(WARM_SECONDS * 1000); // sleeps: memory is read at given moments of a stream
    const warm = await memoryOfBoth();
    await systemClock.sleep((SECONDS - WARM_SECONDS - 1) * 1000); // sleeps: likewise
    const late = await memoryOfBoth();
    const report = await traffic;
    const growth = HOSTS.map((host) => ({
      rss: late[host].rss - warm[host].rss,
      heap: late[host].heap - warm[host].heap,
    }));
    const now = await settled();
    const dropped = (await dropsOfKernel()).map((count, i) => count - droppedBefore[i]!);
    const ours = HOSTS.map((host) => dropsOf(now[host]));
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
    const cells = [
      ...[transport, streams, way, gigabitsOf(report), retransmitsOf(report), megabytes(leastBytes(report))],
      ...[dropped.slice(0, 2).join(', '), dropped.slice(2).join(', '), ours.join(', ')],
      growth.map(({ rss }) => megabytes(rss)).join(', '),
      growth.map(({ heap }) => megabytes(heap)).join(', '),
    ];
    console.log(`| ${cells.join(' | ')} |`);

    expect(leastBytes(report)).toBeGreaterThan(0);
    for (const host of HOSTS) await expectConserved(host, now);
    if (!LONG) return;
    for (const { rss, heap } of growth) {
      expect(rss).toBeLessThan(RSS_GROWTH_BYTES);
      expect(heap).toBeLessThan(HEAP_GROWTH_BYTES);
    }
    const theirs = fastdRetransmits.get(`${streams} ${way}`);
    if (theirs !== undefined) expect(retransmitsOf(report) / SECONDS).toBeLessThan(theirs);
  });

  /** Within the agent, between it and its link, and across the underlay. */
  async function expectConserved(from: Host, now: Record<Host, Record<string, number>>): Promise<void> {
    const to = other(from);
    for (const direction of ['outbound', 'inbound'] as const)
      expect(conservationGap(now[from], direction)).toBe(0);
    const out = now[from].outbound_out_underlay_packets!;
    const lost = out - now[to].inbound_in_underlay_packets!;
    const { tx } = await linkStatistics(hosts, from, 'eth0');
    if (transport === 'ipip') {
      expect(tx.packets).toBeGreaterThanOrEqual(out);
      expect(tx.packets).toBeLessThanOrEqual(out + OTHER_FRAMES);
    } else expect(tx.bytes).toBeGreaterThan(now[from].outbound_out_underlay_bytes!);
    // The kernel counts a superpacket that it drops as one.
    const dropped = await kernelDrops(hosts, to);
    expect(lost).toBeGreaterThanOrEqual(dropped);
    expect(lost).toBeLessThanOrEqual(dropped * (transport === 'udp' ? 64 : 1));
  }
});
