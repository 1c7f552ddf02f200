import { expect, test } from 'vitest';
import { blocksOf, outputMatches } from './console-page.ts';

const PAGE = `Text.
\`\`\`console
$ cat << EOF
$ not a command
EOF
its output
$ false  # exit 1
\`\`\`
\`\`\`yaml
kind: ipPool
\`\`\`
\`\`\`console not-run: it takes an hour
$ sleep 3600
\`\`\`
`;

test('commands, here-documents, expected output and exit status are read', () => {
  const [first, second] = blocksOf(PAGE);
  expect(first?.commands).toMatchObject([
    { line: 3, text: 'cat << EOF\n$ not a command\nEOF', output: ['its output'], exitStatus: 0 },
    { line: 7, output: undefined, exitStatus: 1 },
  ]);
  expect(second).toMatchObject({ notRun: 'it takes an hour', needsLab: false });
});

test.each([
  ['an unknown tag', '```console laboratory\n$ true\n```'],
  ['an unclosed fence', '```console\n$ true\n'],
  ['a block without a command', '```console\n```'],
  ['output before any command', '```console\ntrue\n```'],
  ['a reason that is missing', '```console not-run:\n$ true\n```'],
])('%s is refused', (_, page) => {
  expect(() => blocksOf(page)).toThrow(/^line 1|^line 2/);
});

test.each([
  ['the same', ['a  b'], ['a b'], true],
  ['another word', ['a b'], ['a c'], false],
  ['a line too many', ['a'], ['a', 'b'], false],
  ['a line too few', ['a', 'b'], ['a'], false],
  ['any lines', ['a', '...', 'z'], ['a', 'b', 'c', 'z'], true],
  ['no lines where any may be', ['a', '...'], ['a'], true],
  ['any lines, but not the last', ['a', '...', 'z'], ['a', 'b'], false],
  ['any text within a line', ['uid <any>!'], ['uid 7!'], true],
  ['times by shape', ['2026-01-01T00:00:00Z 0.3 ms'], ['2031-12-31T23:59:59Z 12 ms'], true],
  ['a time where none was', ['x 0.3 ms'], ['x'], false],
])('output: %s', (_, expected, got, same) => {
  expect(outputMatches(expected, got)).toBe(same);
});
