/**
 * Commands and expected output of a documentation page. Theory of operation:
 *
 * 1. `blocksOf` finds the fenced blocks tagged `console` and splits each into commands with what they print.
 * 2. `scriptOf` writes one bash script for the page: every command's output and exit status go to a file
 *    of its own, so that the shell's state carries over and one failure does not hide the next.
 * 3. `mismatch` compares, volatile parts by shape only (CONTRIBUTING.md, "Documentation is executed").
 */

export interface Command {
  /** Line of the page on which the command begins, counted from 1. */
  readonly line: number;
  readonly text: string;
  readonly exitStatus: number;
  /** Undefined where the page shows no output: then only the exit status counts. */
  readonly output: readonly string[] | undefined;
}

export interface Block {
  readonly line: number;
  /** The words after the fence: `console`, `console lab`, `console not-run: REASON`. */
  readonly tag: string;
  /** Why it is shown and not run. */
  readonly notRun: string | undefined;
  readonly needsLab: boolean;
  readonly commands: readonly Command[];
}

/** The `console` blocks of a page. @throws Error naming the line of a block that cannot be understood */
export function blocksOf(page: string): readonly Block[] {
  const lines = page.split('\n');
  const blocks: Block[] = [];
  for (let i = 0; i < lines.length; i++) {
    const fence = /^```+(.*)$/.exec(lines[i] ?? '');
    if (!fence) continue;
    const end = lines.findIndex((line, at) => at > i && /^```+$/.test(line));
    if (end < 0) throw new Error(`line ${i + 1}: this fence is never closed`);
    const tag = (fence[1] ?? '').trim();
    if (/^console\b/.test(tag)) blocks.push(blockOf(tag, lines.slice(i + 1, end), i + 2));
    i = end;
  }
  return blocks;
}

function blockOf(tag: string, lines: readonly string[], firstLine: number): Block {
  const words = tag.slice('console'.length).trim();
  const notRun = /^not-run:\s*(.*)$/.exec(words)?.[1];
  const known = words === '' || words === 'lab' || Boolean(notRun);
  if (!known) {
    throw new Error(
      `line ${firstLine - 1}: unknown tag "${tag}": expected console, console lab, console not-run: REASON`,
    );
  }
  const commands = commandsOf(lines, firstLine);
  if (commands.length === 0)
    throw new Error(`line ${firstLine - 1}: a console block without a line that begins with "$ "`);
  return { line: firstLine - 1, tag, notRun, needsLab: words === 'lab', commands };
}

function commandsOf(lines: readonly string[], firstLine: number): readonly Command[] {
  const commands: Command[] = [];
  let i = 0;
  while (i < lines.length) {
    const start = i;
    if (!lines[i]?.startsWith('$ '))
      throw new Error(`line ${firstLine + i}: output before the first command`);
    i = endOfCommand(lines, i);
    const text = lines.slice(start, i).join('\n').slice(2);
    const next = lines.findIndex((line, at) => at >= i && line.startsWith('$ '));
    const output = lines.slice(i, next < 0 ? lines.length : next);
    commands.push({
      line: firstLine + start,
      text,
      exitStatus: Number(/#\s*exit (\d+)\s*$/m.exec(text)?.[1] ?? 0),
      output: output.length > 0 ? output : undefined,
    });
    i += output.length;
  }
  return commands;
}

/** The index after the command's last line: a here-document or trailing backslashes may continue it. */
function endOfCommand(lines: readonly string[], start: number): number {
  const terminator = /<<-?\s*['"]?(\w+)/.exec(lines[start] ?? '')?.[1];
  if (terminator) {
    const end = lines.findIndex((line, at) => at > start && line === terminator);
    return end < 0 ? lines.length : end + 1;
  }
  let i = start;
  while (lines[i]?.endsWith('\\')) i++;
  return i + 1;
}

/** A bash script that runs the commands in one shell; the nth leaves `n.out` and `n.exit` in `directory`. */
export function scriptOf(commands: readonly Command[], directory: string): string {
  const steps = commands.map(
    (command, n) =>
      `{\n${command.text}\n} < /dev/null > '${directory}/${n}.out' 2>&1\necho $? > '${directory}/${n}.exit'\n`,
  );
  return `shopt -s expand_aliases\n${steps.join('')}`;
}

const VOLATILE: readonly (readonly [RegExp, string])[] = [
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, 'UID'],
  [/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, 'TIME'],
  [/\b\d\d:\d\d:\d\d\.\d{3,9}\b/g, 'CLOCK'],
  [/\b\d+(\.\d+)? ?ms\b/g, 'MS'],
  [/\bid \d+\b/g, 'id N'],
  [/resourceVersion: "\d+"/g, 'resourceVersion: "N"'],
];

function shapeOf(line: string): string {
  const shaped = VOLATILE.reduce((text, [pattern, name]) => text.replace(pattern, name), line);
  return shaped.replace(/\s+/g, ' ').trim();
}

function lineMatches(expected: string, got: string): boolean {
  const parts = shapeOf(expected).split('<any>');
  const escaped = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`).test(shapeOf(got));
}

function withoutBlankEnds(lines: readonly string[]): readonly string[] {
  const first = lines.findIndex((line) => line.trim() !== '');
  const last = lines.findLastIndex((line) => line.trim() !== '');
  return first < 0 ? [] : lines.slice(first, last + 1);
}

/** Whether `got` is what `expected` shows. */
export function outputMatches(expected: readonly string[], got: readonly string[]): boolean {
  return matches(withoutBlankEnds(expected), withoutBlankEnds(got));
}

function matches(expected: readonly string[], got: readonly string[]): boolean {
  const [head, ...rest] = expected;
  if (head === undefined) return got.length === 0;
  if (head.trim() === '...')
    return got.some((_, skip) => matches(rest, got.slice(skip))) || matches(rest, []);
  const [line, ...others] = got;
  return line !== undefined && lineMatches(head, line) && matches(rest, others);
}
