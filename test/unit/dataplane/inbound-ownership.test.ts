/** When the inbound direction changes threads; that no packet is lost, doubled or overtaken then is test/property's. */
import { expect, test } from 'vitest';
import {
  CALM_MS,
  CALM_SHARE,
  createOwnershipMemory,
  InboundOwnership,
  SATURATED_SHARE,
  type ThreadNumber,
  WINDOW_MS,
} from '../../../src/dataplane/inbound-ownership.ts';

const START_MS = 1_790_000_000_000;

/** Both threads, with what each was told to do. */
class Threads {
  nowMs: number;
  readonly said: string[] = [];
  readonly #memory = createOwnershipMemory();
  readonly #workedMs = [0, 0];
  readonly #sleptMs = [0, 0];
  /** How often each was asked for its processor time. */
  readonly asked = [0, 0];
  readonly #threads: readonly InboundOwnership[];

  constructor(nowMs = START_MS) {
    this.nowMs = nowMs;
    this.#threads = ([0, 1] as const).map(
      (self) =>
        new InboundOwnership({
          memory: this.#memory,
          self,
          nowMs,
          receive: (on) => this.said.push(`${self} ${on ? 'begins' : 'ends'}`),
          workedMs: () => {
            this.asked[self]! += 1;
            return this.#workedMs[self]!;
          },
          sleptMs: () => this.#sleptMs[self]!,
          wakeOther: () => this.said.push(`${self} wakes`),
        }),
    );
  }

  /** Thread 0 sleeps for so long of a time, and works in what is left of it. */
  passSleeping(ms: number, sleptMs: number): void {
    this.nowMs += ms;
    this.#sleptMs[0]! += sleptMs;
    this.#workedMs[0]! += ms - sleptMs;
    this.#threads[0]!.settle(this.nowMs);
  }

  thread(number: ThreadNumber): InboundOwnership {
    return this.#threads[number]!;
  }

  /** A time in which thread i works this share; each is asked at its end. */
  pass(ms: number, ...shares: readonly [number, number]): void {
    this.nowMs += ms;
    for (const i of [0, 1] as const) {
      this.#workedMs[i] = this.#workedMs[i]! + ms * shares[i];
      this.#threads[i]!.settle(this.nowMs);
    }
  }

  /** The first thread has given the direction to the second. */
  static withSecond(nowMs?: number): Threads {
    const threads = new Threads(nowMs);
    threads.thread(0).takeOver();
    threads.pass(WINDOW_MS, 1, 0);
    threads.thread(1).takeOver();
    expect(threads.thread(1).receives).toBe(true);
    threads.said.length = 0;
    return threads;
  }
}

test('the first thread owns the direction, and keeps it while it has time', () => {
  const threads = new Threads();
  for (const i of [0, 1] as const) threads.thread(i).takeOver();
  expect(threads.said).toEqual(['0 begins']);
  for (let i = 0; i < 1000; i++) threads.pass(WINDOW_MS, SATURATED_SHARE - 0.01, 0);
  expect(threads.said).toEqual(['0 begins']);
});

test('a thread that is saturated stops to receive before it wakes the other', () => {
  const threads = new Threads();
  threads.thread(0).takeOver();
  threads.pass(WINDOW_MS, 1, 0);
  threads.thread(1).takeOver();
  expect(threads.said).toEqual(['0 begins', '0 ends', '0 wakes', '1 begins']);
});

test('less than a window is not judged', () => {
  const threads = new Threads();
  threads.thread(0).takeOver();
  for (let ms = 1; ms < WINDOW_MS; ms++) threads.pass(1, 1, 0);
  expect(threads.said).toEqual(['0 begins']);
});

test('who does not own it has nothing to give', () => {
  const threads = new Threads();
  threads.thread(0).takeOver();
  for (let i = 0; i < 10; i++) threads.pass(CALM_MS, 0, 1);
  expect(threads.said).toEqual(['0 begins']);
});

test('it comes back when both have had little to do for a while', () => {
  const threads = Threads.withSecond();
  threads.pass(CALM_MS - 1, CALM_SHARE, CALM_SHARE);
  expect(threads.said).toEqual([]);
  threads.pass(WINDOW_MS, CALM_SHARE, CALM_SHARE);
  threads.thread(0).takeOver();
  expect(threads.said).toEqual(['1 ends', '1 wakes', '0 begins']);
});

test.each([
  { busy: 'outbound', first: 1, second: 0 },
  { busy: 'inbound', first: 0, second: 1 },
])('it stays with the second thread as long as $busy is busy', ({ first, second }) => {
  const threads = Threads.withSecond();
  for (let i = 0; i < 1000; i++) threads.pass(WINDOW_MS, first, second);
  expect(threads.said).toEqual([]);
  // The last look at the busy one counts, although it sleeps since then and says nothing any more.
  threads.pass(CALM_MS + WINDOW_MS, 0, 0);
  expect(threads.said).toEqual(['1 ends', '1 wakes']);
});

test('the clock may wrap as a word of 32 bits', () => {
  const threads = Threads.withSecond(2 ** 31 - 20);
  threads.pass(CALM_MS - 1, 0, 0);
  expect(threads.said).toEqual([]);
  threads.pass(WINDOW_MS, 0, 0);
  expect(threads.said).toEqual(['1 ends', '1 wakes']);
});

test('a thread that sleeps most of the time is not asked how long it worked', () => {
  const threads = new Threads();
  threads.thread(0).takeOver();
  const before = threads.asked[0]!;
  for (let i = 0; i < 10; i++) threads.passSleeping(WINDOW_MS, WINDOW_MS * 0.9);
  expect(threads.asked[0]).toBe(before);
});

test('after that its first busy window says nothing yet, the second one does', () => {
  const threads = new Threads();
  threads.thread(0).takeOver();
  threads.passSleeping(WINDOW_MS, WINDOW_MS * 0.9);
  threads.passSleeping(WINDOW_MS, 0);
  expect(threads.thread(0).receives).toBe(true);
  threads.passSleeping(WINDOW_MS, 0);
  expect(threads.thread(0).receives).toBe(false);
});
