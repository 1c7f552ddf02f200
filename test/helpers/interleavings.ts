/** The orders in which the datastore operations of two processes can happen: one that is given, or every one. */
import { setImmediate as immediate } from 'node:timers/promises';

export type Turn = () => Promise<void>;
export type Actor = (turn: Turn) => Promise<unknown>;

/**
 * Runs two actors; before each operation an actor waits for its turn, and `choose` says whether the first one goes
 * next. It is asked only where both wait.
 */
async function interleaved(first: Actor, second: Actor, choose: () => boolean): Promise<void> {
  // One process may have several operations under way.
  const waiting = { first: [] as (() => void)[], second: [] as (() => void)[] };
  const running = new Set(['first', 'second']);
  const turnOf = (who: 'first' | 'second') => () =>
    new Promise<void>((resolve) => {
      waiting[who].push(resolve);
    });
  const finished = [
    first(turnOf('first')).finally(() => running.delete('first')),
    second(turnOf('second')).finally(() => running.delete('second')),
  ];
  while (running.size > 0) {
    await immediate();
    const both = waiting.first.length > 0 && waiting.second.length > 0;
    const who = both ? (choose() ? 'first' : 'second') : waiting.first.length > 0 ? 'first' : 'second';
    waiting[who].shift()?.();
  }
  await Promise.all(finished);
}

/** In the order that `schedule` says, in turns after its end. */
export function inOrder(schedule: readonly boolean[], first: Actor, second: Actor): Promise<void> {
  let step = 0;
  return interleaved(first, second, () => schedule[step++] ?? step % 2 === 0);
}

/**
 * Every order with at most `switches` changes from one actor to the other while both could go on (all orders are too
 * many where a conflict leads to another attempt). `play` runs the two actors anew each time, on a fresh datastore,
 * and checks what they left. Gives the number of orders.
 */
export async function everyOrder(
  switches: number,
  play: (run: (first: Actor, second: Actor) => Promise<void>) => Promise<void>,
): Promise<number> {
  let orders = 0;
  // At which choice, counted over both actors, the turn goes to the other one.
  const next: (readonly number[])[] = [[]];
  for (let at = next.pop(); at; at = next.pop()) {
    const changes: readonly number[] = at;
    let choices = 0;
    let who = true;
    await play((first, second) =>
      interleaved(first, second, () => {
        if (changes.includes(choices++)) who = !who;
        return who;
      }),
    );
    orders++;
    if (changes.length < switches)
      for (let later = (changes.at(-1) ?? -1) + 1; later < choices; later++) next.push([...changes, later]);
  }
  return orders;
}
