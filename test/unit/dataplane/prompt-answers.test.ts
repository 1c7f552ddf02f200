/** When the TUN is read at once after a packet was written to it. */
import { expect, test } from 'vitest';
import { PromptAnswers } from '../../../src/dataplane/prompt-answers.ts';

/** What a host answers to each packet, in order; returns for each whether the TUN was read. */
function readsFor(found: readonly number[]): boolean[] {
  const answers = new PromptAnswers();
  return found.map((packets) => {
    const due = answers.isDue();
    if (due) answers.found(packets);
    return due;
  });
}

test('a host that answers is asked after each packet', () => {
  expect(readsFor(Array(100).fill(1))).not.toContain(false);
});

test('one that answers now and then, too', () => {
  const found = Array.from({ length: 100 }, (_, i) => (i % 4 === 3 ? 1 : 0));
  expect(readsFor(found)).not.toContain(false);
});

test('one that does not answer is asked rarely', () => {
  const reads = readsFor(Array(1000).fill(0));
  const asked = reads.filter(Boolean).length;
  expect(asked).toBeGreaterThan(10);
  expect(asked).toBeLessThan(40);
});

test('once it answers, it is asked after each packet again', () => {
  const silent = Array(100).fill(0);
  const reads = readsFor([...silent, ...Array(100).fill(1)]);
  const again = reads.indexOf(true, silent.length);
  expect(again).toBeLessThan(silent.length + 40);
  expect(reads.slice(again)).not.toContain(false);
});
