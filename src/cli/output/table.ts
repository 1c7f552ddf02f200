/**
 * Tables as Go's text/tabwriter prints them for Calico: each column as wide as its longest cell and three spaces
 * more, at least five; the last column is padded too; an empty line ends the table.
 */
const PADDING = 3;
const MIN_WIDTH = 5;

export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows];
  const widths = headings.map((_, i) =>
    lines.reduce((width, line) => Math.max(width, characters(line[i] ?? '') + PADDING), MIN_WIDTH),
  );
  const text = lines.map((line) =>
    widths.map((width, i) => (line[i] ?? '') + ' '.repeat(width - characters(line[i] ?? ''))).join(''),
  );
  return `${text.join('\n')}\n\n`;
}

function characters(text: string): number {
  return [...text].length;
}
