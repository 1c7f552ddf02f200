/** What is told of the fast path: its mode, whether each direction runs, and its share of the packets. */

export type FastPathMode = 'auto' | 'ebpf' | 'off';
export const FAST_PATH_MODES: readonly FastPathMode[] = ['auto', 'ebpf', 'off'];

export type FastDirection = 'outbound' | 'inbound';
export const FAST_DIRECTIONS: readonly FastDirection[] = ['outbound', 'inbound'];

/** null: it runs. Else why it does not. */
export type FastPathState = Readonly<Record<FastDirection, string | null>>;

export const FAST_PATH_STARTING: FastPathState = { outbound: 'not started yet', inbound: 'not started yet' };
export const FAST_PATH_OFF: FastPathState = {
  outbound: 'switched off (--fast-path off)',
  inbound: 'switched off (--fast-path off)',
};

/** A line for each direction, for people: whether it runs, its share, why packets took the slow path, and how often it was mended. */
export function fastPathLines(state: FastPathState, counters: Readonly<Record<string, number>>): string[] {
  return FAST_DIRECTIONS.map((direction) => {
    const why = state[direction];
    const line = why === null ? 'runs' : `off: ${why}`;
    const all = counters[`${direction}_in_${direction === 'outbound' ? 'device' : 'underlay'}_packets`] ?? 0;
    const fast = counters[`${direction}_note_fast_packets`];
    if (fast === undefined) return `${direction} ${line}`;
    const share = all === 0 ? '' : `; carried ${((100 * fast) / all).toFixed(1)} % of ${all} packets`;
    const reasons = slowReasons(direction, counters);
    const times = counters[`${direction}_note_fast_mendings`] ?? 0;
    const mended = times === 0 ? '' : `; mended ${times === 1 ? 'once' : `${times} times`}`;
    return `${direction} ${line}${share}${reasons === '' ? '' : `; slow path for ${reasons}`}${mended}`;
  });
}

/** `options 3, fragment 9`: the most frequent first. */
function slowReasons(direction: FastDirection, counters: Readonly<Record<string, number>>): string {
  const pattern = new RegExp(`^${direction}_note_slow_(.*)_packets$`);
  return Object.entries(counters)
    .flatMap(([name, count]) => {
      const reason = pattern.exec(name)?.[1];
      return reason === undefined || count === 0 ? [] : [{ reason, count }];
    })
    .sort((a, b) => b.count - a.count)
    .map(({ reason, count }) => `${reason} ${count}`)
    .join(', ');
}
