/** Tables with lines around them, as Calico prints those of IPAM: headings centred, whole numbers to the right. */

const WHOLE_NUMBER = /^-?\d+$/;

export function boxTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) =>
    rows.reduce((width, row) => Math.max(width, (row[column] ?? '').length), heading.length),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const line = (cells: readonly string[]) => `|${cells.map((cell) => ` ${cell} `).join('|')}|`;
  const body = rows.map((row) => line(widths.map((width, column) => aligned(row[column] ?? '', width))));
  const head = line(widths.map((width, column) => centred(headings[column] ?? '', width)));
  return `${[rule, head, rule, ...body, rule].join('\n')}\n`;
}

function aligned(text: string, width: number): string {
  return WHOLE_NUMBER.test(text) ? text.padStart(width) : text.padEnd(width);
}

function centred(text: string, width: number): string {
  return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width);
}
