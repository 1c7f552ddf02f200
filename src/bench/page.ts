/** docs/performance.md: the measured parts of the page, between marks; what is around them is written by hand. */
import { readFileSync, writeFileSync } from 'node:fs';
import { FailedError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { besideTwins, judge, type Spread } from './goals.ts';
import { FIGURES, type Figure } from './measure.ts';
import { median, type Results } from './results.ts';

const PAGE = installedFile('docs/performance.md').pathname;

const HEADINGS: Readonly<Record<Figure, string>> = {
  'tcp-1500': 'TCP, MTU 1500, Gbit/s',
  'tcp-9001': 'TCP, MTU 9001, Gbit/s',
  'udp-64': 'UDP 64 B, kpps',
  ping: 'ping every 2 ms, µs',
  flood: 'flood ping, µs',
};

/** Three significant digits, as the spread allows no more. */
export function formatNumber(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...body.map(line)].join('\n');
}

/** Median, and the least and greatest where there are several. */
function cell(results: Results, contender: string, figure: Figure): string {
  const values = results.values(contender, figure);
  if (values.length === 0)
    return results.failures().some((one) => one.contender === contender && one.figure === figure)
      ? 'failed'
      : '';
  const spread =
    values.length > 1 ? ` (${formatNumber(Math.min(...values))}–${formatNumber(Math.max(...values))})` : '';
  return `${formatNumber(median(values))}${spread}`;
}

export function figuresTable(results: Results): string {
  const rows = results.contenders().map(({ contender }) => {
    const retransmits = results.retransmits(contender, 'tcp-1500');
    return [
      contender,
      ...FIGURES.map((figure) => cell(results, contender, figure)),
      retransmits === undefined ? '' : formatNumber(retransmits),
    ];
  });
  return markdownTable([
    ['', ...FIGURES.map((figure) => HEADINGS[figure]), 'retransmits at MTU 1500'],
    ...rows,
  ]);
}

export function goalsTable(results: Results): string {
  const rows = judge(results).map((one) => {
    const { title, first, second, reached, kernel } = one;
    return [
      title,
      spreadText(one),
      first,
      second,
      reached === 'none' ? 'not reached' : reached === 'second' ? 'second reached' : 'first reached',
      kernel === null ? '' : `${kernel.ratio.toFixed(2)}: ${kernel.name}`,
    ];
  });
  return markdownTable([
    ['ratio', 'measured', 'first goal', 'second goal', '', 'the kernel’s, to the same'],
    ...rows,
  ]);
}

export function twinsTable(results: Results): string {
  const rows = besideTwins(results).map((one) => [one.title, spreadText(one)]);
  return markdownTable([['figure', 'ours to that of C'], ...rows]);
}

const spreadText = ({ ratio, least, greatest }: Spread) =>
  `${ratio.toFixed(2)} (${least.toFixed(2)}–${greatest.toFixed(2)})`;

export function settingsList(results: Results): string {
  return results
    .contenders()
    .map(({ contender, settings }) => `- **${contender}**: ${settings}`)
    .join('\n');
}

/** When, on what, and how busy with other things the machine was. */
export function circumstancesText(results: Results): string {
  const first = results.circumstances[0];
  if (!first)
    throw new FailedError('ERR_BENCH', 'the results tell nothing of the machine they were measured on');
  const loads = results.circumstances.map(({ otherLoad }) => otherLoad * 100);
  const days = [...new Set(results.circumstances.map(({ at }) => at.slice(0, 10)))].join(', ');
  return [
    `${results.circumstances.length} rounds, ${days}: ${first.processor}, ${first.cores} cores, Linux ${first.kernel},`,
    `Node.js ${first.node}; TCP ${first.tcpSeconds} s each. In the second before each round`,
    `${Math.min(...loads).toFixed(0)}–${Math.max(...loads).toFixed(0)} % of the machine was in use by others.`,
  ].join(' ');
}

/** Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->`. */
export function replaceSection(name: string, text: string): void {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from)
    throw new FailedError('ERR_BENCH', `${PAGE} has no place for the section: expected ${begin} … ${end}`);
  writeFileSync(PAGE, `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`);
}
