/** When a packet thread pauses: in the middle of a train of packets only, never after a single one or a full batch. */
import { expect, test } from 'vitest';
import { READY_SOURCE, READY_WAKE } from '../../../src/dataplane/ports.ts';
import { runLoop } from '../../../src/dataplane/run-loop.ts';

const CAPACITY = 64;

/** Runs one turn of the loop in which the source gives these batches; how often it rested. */
function restsAfter(...batches: readonly number[]): number {
  const left = [...batches];
  let rests = 0;
  const ready = [READY_SOURCE, READY_WAKE];
  runLoop({
    waiter: { wait: () => ready.shift()!, waitForSink: () => true },
    source: { run: () => left.shift() ?? 0, capacity: CAPACITY, rest: () => rests++ },
    takeMessages: () => false,
  });
  expect(left).toEqual([]);
  return rests;
}

test('a train of packets that is not all there is waited for', () => {
  expect(restsAfter(2)).toBe(1);
  expect(restsAfter(CAPACITY - 1)).toBe(1);
});

test('a single packet is no train, and nothing is not waited for', () => {
  expect(restsAfter(1)).toBe(0);
  expect(restsAfter(0)).toBe(0);
});

test('with full batches there is no time to rest', () => {
  expect(restsAfter(CAPACITY, 0)).toBe(0);
  expect(restsAfter(CAPACITY, 7)).toBe(0);
});
