/**
 * What has broken the fast path behind its back, and when to mend it: programs taken off, maps emptied, writes that
 * failed. A map that could not be written is written no further, since half of a change may be worse than none; our
 * tables remember what was to be there, and all of it is laid again.
 */
import type { MapWriter } from '../ebpf/fast-tables.ts';
import { FAST_DIRECTIONS, type FastDirection } from './fast-path-state.ts';

/** Who undoes it this often within that time means it: we do not fight. */
const MOST_MENDINGS = 5;
const MENDINGS_MS = 10 * 60 * 1000;

export class Mending {
  readonly #broken: Record<FastDirection, string | null> = { outbound: null, inbound: null };
  /** How often each direction was mended. */
  readonly #mended: Record<FastDirection, number> = { outbound: 0, inbound: 0 };
  #mendedMs: number[] = [];
  #gaveUp = false;
  #isWritable = true;
  /** To the maps, as long as they take it. */
  readonly writer: MapWriter;

  constructor(maps: MapWriter) {
    this.writer = {
      set: (map, key, value) => this.#write(() => maps.set(map, key, value)),
      delete: (map, key) => this.#write(() => maps.delete(map, key)),
      startCounters: (key) => this.#write(() => maps.startCounters(key)),
      keys: (map) => maps.keys(map),
    };
  }

  /** Why a direction is broken; null where it is not. */
  why(direction: FastDirection): string | null {
    const why = this.#broken[direction];
    return why !== null && this.#gaveUp ? `${why}, again and again` : why;
  }

  timesMended(direction: FastDirection): number {
    return this.#mended[direction];
  }

  /** The first reason stays. */
  note(why: string, directions: readonly FastDirection[] = FAST_DIRECTIONS): void {
    for (const direction of directions) this.#broken[direction] ??= why;
  }

  /** Whether there is something to mend now; then it counts as whole until something is noted again. */
  begin(nowMs: number): boolean {
    if (FAST_DIRECTIONS.every((direction) => this.#broken[direction] === null)) return false;
    this.#mendedMs = this.#mendedMs.filter((ms) => nowMs - ms < MENDINGS_MS);
    this.#gaveUp = this.#mendedMs.length >= MOST_MENDINGS;
    if (this.#gaveUp) return false;
    this.#mendedMs.push(nowMs);
    for (const direction of FAST_DIRECTIONS) {
      if (this.#broken[direction] !== null) this.#mended[direction]++;
      this.#broken[direction] = null;
    }
    this.#isWritable = true;
    return true;
  }

  #write(write: () => void): void {
    if (!this.#isWritable) return;
    try {
      write();
    } catch (error) {
      this.#isWritable = false;
      this.note(`writing its maps failed: ${(error as Error).message}`);
    }
  }
}
