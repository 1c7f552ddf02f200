/** What the bench's tables say follows from its measurements alone. */
import { expect, test } from 'vitest';
import { IPIP, judge } from '../../../src/bench/goals.ts';
import { figuresTable, goalsTable } from '../../../src/bench/page.ts';
import { plot } from '../../../src/bench/plot.ts';
import { readSamples, workOf } from '../../../src/bench/profile.ts';
import { type Measurement, Results } from '../../../src/bench/results.ts';

const one = (round: number, contender: string, value: number | null, more: Partial<Measurement> = {}) =>
  ({
    round: `${round}`,
    contender,
    kind: 'tortie',
    settings: '',
    figure: 'tcp-1500',
    value,
    ...more,
  }) as const;

const underlay = (round: number, value: number) =>
  one(round, 'underlay, no offloads', value, { kind: 'underlay' });

test('ratios are taken within a round: a busy minute spoils one round, not a contender', () => {
  // The last round ran while others used nine tenths of the machine.
  const values = [4, 4, 4, 0.4];
  const results = new Results(
    values.flatMap((value, round) => [one(round, IPIP, value / 2), underlay(round, value)]),
  );
  const [tcp] = judge(results);
  expect(tcp).toMatchObject({ ratio: 0.5, least: 0.5, greatest: 0.5, reached: 'first' });
});

test('all rounds are compared with the best of several, and for round trips the best is the least', () => {
  const ping = { figure: 'ping' } as const;
  const rounds = [
    // The best of the run is fastd, though not in every round.
    { ours: 50, fastd: 100, vtun: 200 },
    { ours: 60, fastd: 100, vtun: 90 },
    { ours: 70, fastd: 100, vtun: 300 },
  ];
  const results = new Results(
    rounds.flatMap(({ ours, fastd, vtun }, round) => [
      one(round, IPIP, ours, ping),
      one(round, 'vtun', vtun, { ...ping, kind: 'plain' }),
      one(round, 'fastd', fastd, { ...ping, kind: 'plain' }),
      one(round, 'wireguard-go', 300, { ...ping, kind: 'batching' }),
    ]),
  );
  expect(judge(results)).toEqual([
    expect.objectContaining({ ratio: 0.6, least: 0.5, greatest: 0.7, reached: 'second', first: '≤ 1.3' }),
  ]);
});

test('beside a ratio to peers stands what the kernel itself has to the same', () => {
  const results = new Results([one(0, IPIP, 3), one(0, 'fastd', 1, { kind: 'plain' }), underlay(0, 5)]);
  const [toUnderlay, toPlain] = judge(results);
  expect(toUnderlay).toMatchObject({ ratio: 0.6, kernel: null });
  expect(toPlain).toMatchObject({ ratio: 3, kernel: { name: 'underlay, no offloads', ratio: 5 } });
  expect(goalsTable(results)).toMatch(/\| 5\.00: underlay, no offloads \|$/m);
});

test('a contender that failed has a cell that says so, and no ratio', () => {
  const results = new Results([one(0, IPIP, null, { failure: 'no answer' }), underlay(0, 4)]);
  expect(figuresTable(results)).toMatch(/\| tortie ipip \| failed \|/);
  expect(judge(results)).toEqual([]);
});

test('the picture has a bar for each contender that was measured', () => {
  const results = new Results([one(0, IPIP, 2), one(0, 'a & b', null), underlay(0, 4)]);
  expect(plot(results).match(/<rect x=/g)).toHaveLength(2);
});

const SAMPLES = `
outbound  100/101 
	ffffffff81234567 _copy_from_iter
	ffffffff81234568 raw_sendmsg
	    7f345804c79f JS:*send file:///x.js:1:1

outbound  100/101 
	ffffffff81234567 ip_forward
	ffffffff81234568 handle_softirqs
	ffffffff81234569 raw_sendmsg

Some Name  100/101 
	ffffffff81234567 _raw_spin_unlock_irqrestore
	ffffffff81234567 try_to_wake_up
	ffffffff81234568 handle_softirqs

outbound  100/101 
	    7f345804c79f JS:*send file:///x.js:1:1

outbound  100/101 
	     14cfd1c Builtins_LoadIC
`;

test('samples of perf are told apart by what the thread was doing', () => {
  const samples = readSamples(SAMPLES);
  expect(samples.map(workOf)).toEqual(['copies', 'kernel, the way', 'wake-ups', 'JavaScript', 'FFI']);
  expect(samples.map(({ program, pid }) => `${program} ${pid}`).slice(1, 3)).toEqual([
    'outbound 100',
    'Some Name 100',
  ]);
});
