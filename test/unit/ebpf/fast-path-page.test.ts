/** docs/fast-path.md shows both programs as they are, and names every reason. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { listing } from '../../../src/ebpf/assembler.ts';
import { inboundProgram } from '../../../src/ebpf/inbound-program.ts';
import { INBOUND_REASONS, MAP_NAMES, OUTBOUND_REASONS } from '../../../src/ebpf/layout.ts';
import { outboundProgram } from '../../../src/ebpf/outbound-program.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../docs/fast-path.md'), 'utf8');
const shown = [...PAGE.matchAll(/```text\n([\s\S]*?)```/g)].map((match) => match[1]).join('');

test('the listings are those of the programs', () => {
  expect(shown).toBe(listing(outboundProgram()) + listing(inboundProgram()));
});

test('every map and every reason for the slow path is explained', () => {
  const firstCells = PAGE.split('\n').flatMap((line) => /^\| ([^|]+) \|/.exec(line)?.[1] ?? []);
  const words = new Set(firstCells.join(' ').match(/[a-z_]+/g));
  const wanted = [...OUTBOUND_REASONS, ...INBOUND_REASONS, ...MAP_NAMES];
  expect(wanted.filter((word) => !words.has(word))).toEqual([]);
});
