/** docs/counters.md has every counter, on its flow picture and in its table, and no other. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Counters, createCounterMemory } from '../../src/dataplane/counters.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/counters.md'), 'utf8');
const directions = ['outbound', 'inbound'] as const;
const namesOf = (direction: (typeof directions)[number]) =>
  Object.keys(new Counters(direction, createCounterMemory()).snapshot());

test('the tables have every counter and no other', () => {
  const listed = PAGE.split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`([a-z0-9_]+)`/g)].map((match) => match[1]));
  expect(listed.sort()).toEqual(directions.flatMap(namesOf).sort());
});

test.each(directions)('the picture of %s shows where each packet is counted', (direction) => {
  const section = PAGE.split('\n## ').find((text) => text.toLowerCase().startsWith(direction)) ?? '';
  const picture = section.split('```')[1] ?? '';
  const words = new Set(picture.match(/[a-z0-9_]+/g));
  const wanted = namesOf(direction)
    .filter((name) => !name.includes('_note_'))
    .map((name) => name.replace(`${direction}_`, '').replace(/^drop_(.*)_packets$/, '$1'));
  expect(wanted.filter((name) => !words.has(name))).toEqual([]);
});
