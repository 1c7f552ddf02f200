/**
 * `scripts/bench programs [ROUNDS]`: how long the fast path's two programs take for a packet, ours and those that clang
 * compiled, in turn on the same links of the same agents. The kernel measures them (kernel.bpf_stats_enabled, which
 * costs some 20 ns a run, and is put back); both with what the kernel's helpers take, which is most of it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { FailedError } from '../base/errors.ts';
import { Bpf } from '../io/bpf.ts';
import { ClangTwin, clangOnPath, type TwinnedLink } from './clang-twin.ts';
import { CLANG_TWIN } from './goals.ts';
import { type Durations, type Figure, measure } from './measure.ts';
import { markdownTable } from './page.ts';
import { median } from './results.ts';
import { roundsAsked, runBench } from './run-bench.ts';
import { TwoHosts } from './two-hosts.ts';

const STATS = '/proc/sys/kernel/bpf_stats_enabled';
const ROUNDS = 5;
const MTU = 1500;
const TIMES: Durations = { tcpSeconds: 2, udpSeconds: 1, floodSeconds: 1, pings: 150 };
const KINDS: readonly (readonly [figure: Figure, title: string])[] = [
  ['tcp-1500', 'TCP superpacket'],
  ['udp-64', 'UDP of 64 bytes'],
  ['flood', 'ping'],
];
const WHOSE = ['ours', 'clangs'] as const;

/** What the kernel has counted of a program. */
function usage(program: number): { readonly ns: number; readonly runs: number } {
  const text = readFileSync(`/proc/self/fdinfo/${program}`, 'utf8');
  const number = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]);
  return { ns: number('run_time_ns'), runs: number('run_cnt') };
}

/** Where most packets of a figure pass: out of a, into b. */
const isOnTheWay = ({ host, direction }: TwinnedLink) => (host === 'a') === (direction === 'outbound');

/** Nanoseconds a packet of each measurement, by what was measured. */
type Samples = Map<string, number[]>;

async function sample(hosts: TwoHosts, bpf: Bpf, twin: ClangTwin, rounds: number): Promise<Samples> {
  const samples: Samples = new Map();
  const { target, links } = await twin.twin(hosts, bpf);
  for (let round = 0; round < rounds; round++)
    for (const whose of round % 2 === 0 ? WHOSE : [...WHOSE].reverse()) {
      for (const one of links) bpf.exchange(one.link, one[whose]);
      for (const [figure] of KINDS) {
        const before = links.map((one) => usage(one[whose]));
        await measure(hosts, target, figure, TIMES);
        links.forEach((one, i) => {
          if (!isOnTheWay(one)) return;
          const after = usage(one[whose]);
          const key = `${one.direction} ${figure} ${whose}`;
          const ns = (after.ns - before[i]!.ns) / (after.runs - before[i]!.runs);
          samples.set(key, [...(samples.get(key) ?? []), ns]);
        });
      }
    }
  return samples;
}

function table(samples: Samples): string {
  const rows = (['outbound', 'inbound'] as const).flatMap((direction) =>
    KINDS.map(([figure, title]) => {
      const [ours = [], clangs = []] = WHOSE.map((whose) => samples.get(`${direction} ${figure} ${whose}`));
      const cell = (ns: readonly number[]) =>
        `${median(ns).toFixed(0)} (${Math.min(...ns).toFixed(0)}–${Math.max(...ns).toFixed(0)})`;
      const ratio = median(ours.map((ns, i) => clangs[i]! / ns));
      return [`${direction}, ${title}`, cell(ours), cell(clangs), ratio.toFixed(2)];
    }),
  );
  return markdownTable([['nanoseconds a run', 'ours', 'clang’s', 'clang’s time to ours'], ...rows]);
}

async function main(rounds: number): Promise<void> {
  const clang = clangOnPath(process.env.PATH ?? '');
  if (clang === undefined)
    throw new FailedError('ERR_BENCH', 'the twin needs clang: expected clang or clang-N on PATH, got none', {
      hint: 'apt-get install clang',
    });
  const hosts = new TwoHosts('programs', MTU);
  const twin = new ClangTwin(CLANG_TWIN, clang);
  const was = readFileSync(STATS, 'utf8');
  try {
    await hosts.up();
    writeFileSync(STATS, '1');
    process.stdout.write(`${table(await sample(hosts, new Bpf(), twin, rounds))}\n`);
  } finally {
    writeFileSync(STATS, was);
    await hosts.close();
    await twin.remove();
  }
}

await runBench(() => main(roundsAsked(process.argv[2], ROUNDS)));
