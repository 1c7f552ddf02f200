/**
 * iputils' ping, so that a late answer is no lost one. Once all requests are out it waits for no longer than an
 * interval or two round trips of the slowest so far: on a loaded machine the last answer may take more. (-W holds
 * only while nothing at all has been answered.)
 */

/** How long an answer may take, in seconds: far more than any machine needs. */
const LONGEST_ANSWER_S = 10;
/** And the first of all, which is missing where there is no way at all. */
const FIRST_ANSWER_S = 5;

/** Exactly as many requests as `-c` says, all at once, so that the interval is free to be the wait for the last answer. */
export function pingAtOnce(...words: readonly string[]): [string, ...string[]] {
  const count = words[words.indexOf('-c') + 1] ?? '';
  return ['ping', '-l', count, '-i', `${LONGEST_ANSWER_S}`, '-W', `${FIRST_ANSWER_S}`, ...words];
}

/**
 * `count` requests, one every `everyS` seconds. With a deadline it waits for as many answers, but goes on asking
 * meanwhile: what counts is `answered`.
 */
export function pingSteadily(count: number, everyS: number, ...words: readonly string[]): string[] {
  // On a loaded machine an interval is some milliseconds longer than asked for: a tenth, over minutes.
  const deadlineS = Math.ceil(1.5 * count * everyS) + 3 * LONGEST_ANSWER_S;
  return ['ping', '-c', `${count}`, '-i', `${everyS}`, '-w', `${deadlineS}`, ...words];
}

/** How many of the first `count` requests were answered. */
export function answered(output: string, count: number): number {
  return count - unanswered(output, count).length;
}

/** Which of the first `count` requests were not, by their numbers. */
export function unanswered(output: string, count: number): number[] {
  const numbers = new Set(
    [...output.matchAll(/bytes from .*icmp_seq=(\d+)/g)].map((match) => Number(match[1])),
  );
  return Array.from({ length: count }, (_, i) => i + 1).filter((each) => !numbers.has(each));
}
