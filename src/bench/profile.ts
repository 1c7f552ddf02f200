/**
 * `scripts/bench profile [ipip|udp|ipip-9001|udp-9001] [--page]`: where the time goes while one stream of TCP runs, by
 * a transport and at an underlay MTU (1500). `perf` looks at both processors two thousand times a second; each sample is given to a thread and to a kind of work, and all is divided by the
 * packets that passed meanwhile: microseconds of processor time per packet.
 */
import { readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { FailedError, UsageError } from '../base/errors.ts';
import { measure } from './measure.ts';
import { markdownTable, replaceSection } from './page.ts';
import { runBench } from './run-bench.ts';
import { TortieContender } from './tortie.ts';
import { command, TwoHosts } from './two-hosts.ts';

const WAYS: readonly string[] = ['ipip', 'udp', 'ipip-9001', 'udp-9001'];
const TCP_SECONDS = 8;
/** From the start of the stream until the optimizer is done with what it runs through. */
const WARM_UP_MS = 2_500;
const RECORD_SECONDS = 4;
const SAMPLES_PER_SECOND = 1_999;
const PERF_MS = 30_000;
const SCRIPT_MS = 90_000;

const WORK = ['JavaScript', 'FFI', 'kernel, own', 'kernel, the way', 'copies', 'wake-ups'] as const;
type Work = (typeof WORK)[number];

interface Sample {
  readonly program: string;
  readonly pid: number;
  /** Innermost first; kernel addresses begin with ffff. */
  readonly frames: readonly { readonly kernel: boolean; readonly symbol: string }[];
}

const SAMPLE = /^\s*(.+?)\s+(\d+)\/(\d+)\s*:?\s*$/;
const FRAME = /^\s+([0-9a-f]+) (.*)$/;

/** The text of `perf script -F comm,pid,tid,ip,sym`. */
export function readSamples(text: string): readonly Sample[] {
  const samples: { program: string; pid: number; frames: { kernel: boolean; symbol: string }[] }[] = [];
  for (const line of text.split('\n')) {
    const frame = FRAME.exec(line);
    if (frame)
      samples.at(-1)?.frames.push({ kernel: frame[1]!.startsWith('ffff'), symbol: frame[2]!.trim() });
    else {
      const head = SAMPLE.exec(line);
      if (head) samples.push({ program: head[1]!, pid: Number(head[2]), frames: [] });
    }
  }
  return samples;
}

const WAKES =
  /^(try_to_wake_up|__wake_up|ep_poll_callback|pollwake|sock_def_readable|schedule$|__schedule|finish_task_switch)/;
const SOFTIRQ = /^(handle_softirqs|__do_softirq|do_softirq)/;
const COPIES = /copy_(from|to)_(iter|user)|_copy_|rep_movs|memcpy|csum_partial|csum_and_copy/;

/** What a sample's thread was doing. `the way`: packets on their way, which the kernel runs on the sender's account. */
export function workOf({ frames }: Sample): Work {
  const leaf = frames[0];
  if (leaf && !leaf.kernel) return leaf.symbol.startsWith('JS:') ? 'JavaScript' : 'FFI';
  if (frames.some(({ symbol }) => WAKES.test(symbol))) return 'wake-ups';
  if (leaf && COPIES.test(leaf.symbol)) return 'copies';
  return frames.some(({ symbol }) => SOFTIRQ.test(symbol)) ? 'kernel, the way' : 'kernel, own';
}

/** Microseconds a packet: of each thread, by kind of work. */
export function profileTable(
  samples: readonly Sample[],
  threadOf: (sample: Sample) => string,
  packets: number,
): string {
  const microseconds = (count: number) => (count / SAMPLES_PER_SECOND / packets) * 1e6;
  const threads = new Map<string, Map<Work, number>>();
  for (const sample of samples) {
    const thread = threadOf(sample);
    const counts = threads.get(thread) ?? new Map<Work, number>();
    const work = workOf(sample);
    counts.set(work, (counts.get(work) ?? 0) + 1);
    threads.set(thread, counts);
  }
  const total = (counts: Map<Work, number>) => [...counts.values()].reduce((a, b) => a + b, 0);
  const rows = [...threads]
    .sort(([, a], [, b]) => total(b) - total(a))
    .map(([thread, counts]) => [
      thread,
      ...WORK.map((work) => microseconds(counts.get(work) ?? 0).toFixed(2)),
      microseconds(total(counts)).toFixed(2),
    ]);
  return markdownTable([['', ...WORK, 'sum'], ...rows]);
}

/** Which thread of which host; everything that is not part of the experiment is one row. */
function threadNames(agents: Readonly<Record<number, string>>): (sample: Sample) => string {
  return ({ program, pid }) => {
    const host = agents[pid];
    if (host) return /^(packets|inbound)$/.test(program) ? `${host} ${program}` : `${host}, other threads`;
    if (program === 'iperf3') return 'iperf3, both';
    return program === 'swapper' ? 'idle' : 'other programs';
  };
}

/** What it says of one transport. */
async function profile(way: string): Promise<string> {
  const [transport, mtu] = [way.split('-')[0]!, Number(way.split('-')[1] ?? 1500)];
  const file = join(tmpdir(), `tortie-bench-${process.pid}.perf`);
  const hosts = new TwoHosts(`p${transport[0]}`, mtu);
  const tortie = new TortieContender({
    name: transport,
    flags: ['--transport', transport, '--fast-path', 'off'],
    nodeOptions: '--perf-basic-prof',
  });
  try {
    await hosts.up();
    const target = await tortie.start(hosts);
    const stream = measure(hosts, target, 'tcp-1500', {
      ...{ tcpSeconds: TCP_SECONDS, udpSeconds: 0, floodSeconds: 0, pings: 0 },
    });
    await systemClock.sleep(WARM_UP_MS);
    const [before, began] = [await packetsOf(tortie, mtu), performance.now()];
    const record = ['perf', 'record', '-q', '-a', '-g', '-e', 'cpu-clock', '-F', String(SAMPLES_PER_SECOND)];
    await command([...record, '-o', file, '--', 'sleep', String(RECORD_SECONDS)], PERF_MS);
    // perf takes its time to begin and to end; packets pass then, too.
    const share = (RECORD_SECONDS * 1000) / (performance.now() - began);
    const packets = Math.round(((await packetsOf(tortie, mtu)) - before) * share);
    const { value } = await stream;
    const fields = ['-F', 'comm,pid,tid,ip,sym'];
    const text = await command(['perf', 'script', '-i', file, ...fields], SCRIPT_MS);
    const title = `One stream by \`${transport}\`${mtu === 1500 ? '' : ` at MTU ${mtu}`}: ${value.toFixed(2)} Gbit/s; microseconds of processor time per packet:`;
    return `${title}\n\n${profileTable(readSamples(text), threadNames(agentsOf(tortie)), packets)}`;
  } finally {
    await hosts.close();
    for (const pid of Object.keys(agentsOf(tortie))) removeSymbolsOf(pid);
    rmSync(file, { force: true });
    await tortie.remove();
  }
}

/** What `--perf-basic-prof` leaves: a map for perf, and a log of each thread where the process was started. */
function removeSymbolsOf(pid: string): void {
  const logs = readdirSync('.').filter(
    (name) => name.startsWith('isolate-') && name.endsWith(`-${pid}-v8.log`),
  );
  for (const file of [`/tmp/perf-${pid}.map`, ...logs]) rmSync(file, { force: true });
}

function agentsOf(tortie: TortieContender): Readonly<Record<number, string>> {
  return Object.fromEntries(
    Object.entries(tortie.processes).map(([host, { process: child }]) => [child.pid ?? 0, host]),
  );
}

async function packetsOf(tortie: TortieContender, mtu: number): Promise<number> {
  const status = await tortie.status('a', mtu);
  const packets = status?.counters.outbound_out_underlay_packets;
  if (packets === undefined) throw new FailedError('ERR_BENCH', 'the agent tells no counters');
  return packets;
}

async function main(page: boolean, words: readonly string[]): Promise<void> {
  const wanted = words.length === 0 ? ['ipip', 'udp'] : words;
  const unknown = wanted.filter((word) => !WAYS.includes(word));
  if (unknown.length > 0)
    throw new UsageError(`profile ${unknown.join(' ')}: expected any of ${WAYS.join(' ')}`);
  const parts: string[] = [];
  for (const transport of wanted) {
    parts.push(await profile(transport));
    process.stdout.write(`${parts.at(-1)}\n\n`);
  }
  if (page) replaceSection('profile', parts.join('\n\n'));
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const words = process.argv.slice(2);
  await runBench(() =>
    main(
      words.includes('--page'),
      words.filter((word) => word !== '--page'),
    ),
  );
}
