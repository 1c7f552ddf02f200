/** When a packet thread pauses, what a turn is, and when it takes its device for gone. */
import { expect, test } from 'vitest';
import { READY_BROKEN, READY_SOURCE, READY_WAKE } from '../../../src/dataplane/ports.ts';
import { type PacketStep, runLoop } from '../../../src/dataplane/run-loop.ts';

const CAPACITY = 64;
const FIRST = READY_SOURCE;
const SECOND = READY_SOURCE << 1;

/** Runs one turn of the loop for each of `ready`, and ends it. */
function run(steps: readonly PacketStep[], ready: readonly number[]): void {
  const left = [...ready, READY_WAKE];
  runLoop({
    waiter: { wait: () => left.shift()!, waitForSink: () => true, wasQuiet: false },
    steps,
    takeMessages: () => false,
  });
}

/** Whether a turn with this batch from the source is followed by a rest; `also` is ready, too. */
function restsAfter(packets: number, also = 0): boolean {
  let rests = 0;
  const step = { run: () => packets, capacity: CAPACITY, rest: () => rests++ };
  run([step, { run: () => 0, capacity: CAPACITY }], [FIRST | also]);
  return rests === 1;
}

test('a train of packets that is not all there is waited for', () => {
  expect(restsAfter(2)).toBe(true);
  expect(restsAfter(CAPACITY - 1)).toBe(true);
});

test('a single packet is no train, and nothing is not waited for', () => {
  expect(restsAfter(1)).toBe(false);
  expect(restsAfter(0)).toBe(false);
});

test('with full batches there is no time to rest', () => {
  expect(restsAfter(CAPACITY)).toBe(false);
});

test('the other direction does not wait for a rest', () => {
  expect(restsAfter(2, SECOND)).toBe(false);
});

test('a source that always has more does not hold up the other', () => {
  const order: string[] = [];
  const step = (name: string) => ({ run: () => order.push(name) && CAPACITY, capacity: CAPACITY });
  run([step('tun'), step('socket')], [FIRST | SECOND, FIRST | SECOND, SECOND]);
  expect(order).toEqual(['tun', 'socket', 'tun', 'socket', 'socket']);
});

test('a device that is gone ends the thread although packets arrive for it', () => {
  const steps = [
    { run: () => 0, capacity: CAPACITY },
    { run: () => 5, capacity: CAPACITY },
  ];
  const turns = Array.from({ length: 8 }, () => FIRST | SECOND | READY_BROKEN);
  expect(() => run(steps, turns)).toThrow(/is gone/);
  // One that reports an error and still gives packets is not.
  run([{ run: () => 1, capacity: CAPACITY }, steps[1]!], turns);
});

test('a step is told whether what woke the thread is most likely alone', () => {
  const told: boolean[] = [];
  const waits = [true, false, true];
  const waiter = {
    wait: () => (waits.length > 0 ? FIRST : READY_WAKE),
    waitForSink: () => true,
    get wasQuiet() {
      return waits.shift()!;
    },
  };
  runLoop({
    waiter,
    steps: [{ run: (quiet) => told.push(quiet), capacity: CAPACITY }],
    takeMessages: () => false,
  });
  expect(told).toEqual([true, false, true]);
});
