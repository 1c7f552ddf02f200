/** Bars as SVG, without a library: one chart a figure, every contender a bar, the spread as a line. */

import type { Figure } from './measure.ts';
import { formatNumber } from './page.ts';
import { type Measurement, median, type Results } from './results.ts';

const WIDTH = 760;
const LABEL_WIDTH = 170;
const BAR_HEIGHT = 16;
const ROW_HEIGHT = 24;
const TITLE_HEIGHT = 34;
const VALUE_WIDTH = 70;
const COLOURS: Readonly<Record<Measurement['kind'], string>> = {
  underlay: '#9e9e9e',
  kernel: '#9e9e9e',
  tortie: '#c2571a',
  plain: '#5b7f95',
  batching: '#5b7f95',
  twin: '#9e9e9e',
};

const CHARTS: readonly (readonly [figure: Figure, title: string])[] = [
  ['tcp-1500', 'TCP, one stream, MTU 1500, Gbit/s'],
  ['udp-64', 'UDP, 64 bytes, thousands of packets a second delivered'],
  ['ping', 'Round trip, microseconds (less is better)'],
];

const escapeXml = (text: string) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

export function plot(results: Results): string {
  let top = 8;
  const parts: string[] = [];
  for (const [figure, title] of CHARTS) {
    const chart = chartOf(results, figure, title, top);
    parts.push(chart.svg);
    top += chart.height;
  }
  const style =
    'text{font:13px sans-serif;fill:#333}.title{font-weight:bold}.spread{stroke:#333;stroke-width:1.5}';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" role="img">`,
    `<style>${style}</style><rect width="${WIDTH}" height="${top}" fill="#fff"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function chartOf(
  results: Results,
  figure: Figure,
  title: string,
  top: number,
): { readonly svg: string; readonly height: number } {
  const rows = results
    .contenders()
    .map(({ contender, kind }) => ({ contender, kind, values: results.values(contender, figure) }))
    .filter(({ values }) => values.length > 0);
  const greatest = Math.max(...rows.flatMap(({ values }) => values));
  const scale = (value: number) => (value / greatest) * (WIDTH - LABEL_WIDTH - VALUE_WIDTH);
  const bars = rows.map(({ contender, kind, values }, i) => {
    const y = top + TITLE_HEIGHT + i * ROW_HEIGHT;
    const middle = y + BAR_HEIGHT / 2;
    const at = (value: number) => (LABEL_WIDTH + scale(value)).toFixed(1);
    return [
      `<text x="${LABEL_WIDTH - 8}" y="${y + 12}" text-anchor="end">${escapeXml(contender)}</text>`,
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${scale(median(values)).toFixed(1)}" height="${BAR_HEIGHT}" fill="${COLOURS[kind]}"/>`,
      `<line class="spread" x1="${at(Math.min(...values))}" x2="${at(Math.max(...values))}" y1="${middle}" y2="${middle}"/>`,
      `<text x="${(LABEL_WIDTH + scale(Math.max(...values)) + 6).toFixed(1)}" y="${y + 12}">${formatNumber(median(values))}</text>`,
    ].join('');
  });
  return {
    svg: [`<text class="title" x="8" y="${top + 20}">${escapeXml(title)}</text>`, ...bars].join('\n'),
    height: TITLE_HEIGHT + rows.length * ROW_HEIGHT + 8,
  };
}
