/**
 * Theory of operation of bench/: what `scripts/bench` runs, to say how fast this is beside what else there is.
 *
 *   two-hosts     two zones and the router between, as namespaces; one such cloud for each contender and MTU
 *   contender     the underlay, with and without offloads, and the kernel's VXLAN;  tortie: ours;  peers: others
 *   clang-twin    the fast path's programs from C, where clang is there;  elf: what clang writes
 *   c-twin        the userspace path's system calls from C, likewise
 *   measure       one figure: iperf3 or ping, with a deadline
 *   results       measurements as lines of JSON, so that several runs make one table;  goals: ratios to reach
 *   page  plot    the tables of docs/performance.md, and its picture
 *   profile       where the time goes, by perf;  micro  allocation: the inner loops alone, on memory
 *   programs      the time that the fast path's programs take, and clang's (`scripts/bench programs`)
 *   scale         one agent before large clusters (`scripts/bench scale`)
 *
 * All contenders are started before the first round and stay. A round measures every figure of each in turn,
 * every second round in reverse, so that what else the machine does meets all of them alike. Ratios are taken
 * within a round and then the median: a busy minute spoils one round of all, not one contender in all rounds.
 *
 * A contender that does not start or does not answer is a failure in the table, never a missing row.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../base/clock.ts';
import { FailedError, UsageError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { CTwin } from './c-twin.ts';
import { ClangTwin, clangOnPath, FAST_PATH_FLAGS } from './clang-twin.ts';
import { type Contender, kernelVxlan, underlay, underlayWithoutOffloads } from './contender.ts';
import { CLANG_TWIN, FAST_PATH, IPIP, IPIP_IN_C, UDP, UDP_IN_C } from './goals.ts';
import { type Durations, FIGURES, type Figure, measure } from './measure.ts';
import {
  circumstancesText,
  figuresTable,
  formatNumber,
  goalsTable,
  replaceSection,
  settingsList,
  twinsTable,
} from './page.ts';
import { directoryPeer, fastd, vtun, wireguardGo } from './peers.ts';
import { plot } from './plot.ts';
import { appendLine, type Circumstances, Results } from './results.ts';
import { roundsAsked, runBench } from './run-bench.ts';
import { TortieContender } from './tortie.ts';
import { TwoHosts } from './two-hosts.ts';

const JUMBO_MTU = 9001;
const MTU = 1500;
/** Short, and many rounds: of one stream, seconds differ less than it does from the next stream. */
const TIMES: Durations = { tcpSeconds: 2, udpSeconds: 1, floodSeconds: 1, pings: 150 };
const ROUNDS = 10;
/** Of a figure within a round. Round trips vary by a factor of two from one burst to the next, hardly within one. */
const PASSES: Readonly<Record<Figure, number>> = {
  'tcp-1500': 1,
  'tcp-9001': 1,
  'udp-64': 1,
  ping: 3,
  flood: 1,
};
/** Others may have so much of the machine when a round begins; for less it is waited so long. */
const CALM_SHARE = 0.15;
const CALM_WAIT_MS = 20_000;
/** The whole of it; a round that would not end within is not begun. */
const WHOLE_RUN_MS = 15 * 60_000;
const PICTURE = installedFile('docs/performance.svg').pathname;

const { values: flags, positionals } = commandLine();

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        only: { type: 'string', multiple: true, default: [] },
        figures: { type: 'string' },
        peer: { type: 'string', multiple: true, default: [] },
        results: { type: 'string' },
        'wireguard-go': { type: 'string' },
      },
    });
  } catch (error) {
    const misuse = new UsageError(`scripts/bench: ${(error as Error).message}; see scripts/bench --help`);
    process.stderr.write(`${misuse.message}\n`);
    return process.exit(misuse.exitCode);
  }
}

// A reader that goes away (`| head`) must not keep us from taking the namespaces down.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const say = (text: string) => process.stdout.write(`${text}\n`);
const log = (text: string) => process.stderr.write(`${text}\n`);

/** One contender at one MTU. */
interface Setup {
  readonly contender: Contender;
  readonly hosts: TwoHosts;
  readonly figures: readonly Figure[];
  /** What a talks to; else why it could not be started. */
  target?: string;
  failure?: string;
}

function contenders(): readonly Contender[] {
  const clang = clangOnPath(process.env.PATH ?? '');
  if (clang === undefined) log('clang is not on PATH: without the twins in C');
  const all = [
    underlay,
    underlayWithoutOffloads,
    kernelVxlan,
    ...(onPath('fastd') ? [fastd] : []),
    ...(onPath('vtund') ? [vtun] : []),
    ...(flags['wireguard-go'] ? [wireguardGo(flags['wireguard-go'])] : []),
    ...flags.peer.map(peerOf),
    new TortieContender({
      name: IPIP,
      flags: ['--transport', 'ipip', '--fast-path', 'off'],
      figures: FIGURES,
    }),
    new TortieContender({ name: UDP, flags: ['--transport', 'udp', '--fast-path', 'off'], figures: FIGURES }),
    new TortieContender({ name: FAST_PATH, flags: FAST_PATH_FLAGS }),
    ...(clang === undefined ? [] : twins(clang)),
  ];
  if (flags.only.length === 0) return all;
  const unknown = flags.only.filter((name) => !all.some((one) => one.name === name));
  if (unknown.length > 0)
    throw new UsageError(
      `--only ${unknown.join(', ')}: expected any of ${all.map((one) => one.name).join(', ')}`,
    );
  return all.filter(({ name }) => flags.only.includes(name));
}

const twins = (clang: string): readonly Contender[] => [
  new ClangTwin(CLANG_TWIN, clang),
  new CTwin(IPIP_IN_C, 'ipip', clang),
  new CTwin(UDP_IN_C, 'udp', clang),
];

function onPath(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => existsSync(join(directory, program)));
}

function peerOf(text: string): Contender {
  const match = /^([\w.-]+)=(.+)$/.exec(text);
  if (!match) throw new UsageError(`--peer ${text}: expected NAME=DIRECTORY`);
  return directoryPeer(match[1]!, match[2]!);
}

function wantedFigures(): readonly Figure[] {
  if (!flags.figures) return FIGURES;
  const names = flags.figures.split(',');
  const figures = FIGURES.filter((figure) => names.includes(figure));
  if (figures.length !== names.length)
    throw new UsageError(`--figures ${flags.figures}: expected any of ${FIGURES.join(',')}`);
  return figures;
}

/** The figures of a contender that are measured at this MTU. */
function figuresAt(contender: Contender, mtu: number): readonly Figure[] {
  const wanted = wantedFigures();
  return contender.figures.filter(
    (figure) => wanted.includes(figure) && (figure === 'tcp-9001') === (mtu === JUMBO_MTU),
  );
}

function setups(): Setup[] {
  return contenders().flatMap((contender, i) =>
    [MTU, JUMBO_MTU].flatMap((mtu) => {
      const figures = figuresAt(contender, mtu);
      if (figures.length === 0) return [];
      return [{ contender, hosts: new TwoHosts(`${i}${mtu === MTU ? '' : 'j'}`, mtu), figures }];
    }),
  );
}

async function startSetup(setup: Setup): Promise<void> {
  try {
    await setup.hosts.up();
    setup.target = await setup.contender.start(setup.hosts);
  } catch (error) {
    setup.failure = error instanceof Error ? error.message : String(error);
    log(`${setup.contender.name}: ${setup.failure}`);
  }
}

/** Waits until others leave the machine alone, within limits; the share that they had in the end. */
async function calm(): Promise<number> {
  const deadline = performance.now() + CALM_WAIT_MS;
  for (;;) {
    const share = await shareInUse();
    if (share < CALM_SHARE || performance.now() > deadline) return share;
  }
}

/** Of all processors, during a second. */
async function shareInUse(): Promise<number> {
  const sums = () => {
    const times = cpus().map((cpu) => cpu.times);
    const idle = times.reduce((sum, { idle }) => sum + idle, 0);
    return {
      idle,
      all: times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0),
    };
  };
  const before = sums();
  await systemClock.sleep(1_000);
  const after = sums();
  return 1 - (after.idle - before.idle) / (after.all - before.all);
}

async function circumstances(round: string): Promise<Circumstances> {
  return {
    round,
    at: new Date().toISOString(),
    kernel: release(),
    processor: cpus()[0]?.model.trim() ?? 'unknown processor',
    cores: cpus().length,
    node: process.versions.node,
    otherLoad: await calm(),
    tcpSeconds: TIMES.tcpSeconds,
  };
}

async function measureOnce(setup: Setup, figure: Figure, round: string, file: string): Promise<void> {
  const { name: contender, kind, settings } = setup.contender;
  const common = { round, contender, kind, settings, figure };
  try {
    if (!setup.target) throw new FailedError('ERR_BENCH', setup.failure ?? 'not started');
    const outcome = await measure(setup.hosts, setup.target, figure, TIMES);
    appendLine(file, { ...common, ...outcome });
    log(`  ${contender}: ${figure} ${formatNumber(outcome.value)}`);
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    appendLine(file, { ...common, value: null, failure });
    log(`  ${contender}: ${figure} failed: ${failure}`);
  }
}

async function runRounds(all: readonly Setup[], rounds: number, file: string): Promise<void> {
  const began = Date.now();
  for (const setup of all) await startSetup(setup);
  let longest = 0;
  for (let i = 0; i < rounds; i++) {
    if (Date.now() - began + longest > WHOLE_RUN_MS) {
      log(`round ${i + 1} of ${rounds} would end after ${WHOLE_RUN_MS / 60_000} minutes: left out`);
      break;
    }
    const roundBegan = Date.now();
    const round = `${new Date().toISOString()}-${process.pid}-${i}`;
    log(`round ${i + 1} of ${rounds}`);
    appendLine(file, await circumstances(round));
    // One figure of all, then the next: what is compared was measured within a minute, for the machine changes, too.
    for (const figure of FIGURES)
      for (let pass = 0; pass < PASSES[figure]; pass++)
        for (const setup of (i + pass) % 2 === 0 ? all : [...all].reverse())
          if (setup.figures.includes(figure)) await measureOnce(setup, figure, `${round}-${pass}`, file);
    longest = Math.max(longest, Date.now() - roundBegan);
  }
}

function report(results: Results): string {
  const parts = [circumstancesText, figuresTable, goalsTable, twinsTable, settingsList];
  return parts.map((part) => part(results)).join('\n\n');
}

async function compare(): Promise<void> {
  const rounds = roundsAsked(flags.rounds, flags.quick ? 1 : ROUNDS);
  const directory = mkdtempSync(join(tmpdir(), 'tortie-bench-'));
  const file = flags.results ?? join(directory, 'results.jsonl');
  const all = setups();
  const close = async () => {
    for (const setup of all) {
      await setup.hosts.close();
      await setup.contender.remove?.();
    }
    rmSync(directory, { recursive: true, force: true });
  };
  // Where somebody ends the run early, nothing stays behind.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void close().then(() => process.exit(1)));
  try {
    await runRounds(all, rounds, file);
    say(report(Results.read([file])));
  } finally {
    await close();
  }
}

/** Writes the tables of the page, and its picture, from results that were kept. */
function writePage(files: readonly string[]): void {
  if (files.length === 0) throw new UsageError('page RESULTS…: expected files that --results wrote');
  const results = Results.read(files);
  replaceSection('figures', [circumstancesText(results), figuresTable(results)].join('\n\n'));
  replaceSection('ratios', goalsTable(results));
  replaceSection('twins', twinsTable(results));
  replaceSection('settings', settingsList(results));
  writeFileSync(PICTURE, plot(results));
}

await runBench(() => {
  if (positionals[0] === 'page') return writePage(positionals.slice(1));
  if (positionals.length === 0) return compare();
  throw new UsageError(`${positionals.join(' ')}: expected nothing, or page RESULTS…`);
});
