/** Randomness is a parameter, so that tests can be repeated from a seed. */
export interface Random {
  /** A uniformly distributed integer, 0 <= n < bound; bound is at most 2^32. */
  below(bound: number): number;
}

export const systemRandom: Random = {
  below: (bound) => Math.floor(Math.random() * bound),
};

/** mulberry32: 32 bits of state, good enough to vary a test and always the same for one seed. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    below(bound) {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
    },
  };
}
