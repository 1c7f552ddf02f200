/**
 * Waiting in ppoll, with no time limit and no timer: an idle data plane costs nothing; an eventfd wakes it. Where packets
 * come one upon the other it spins for a moment before it sleeps (spin-policy.ts).
 */
import { READY_BROKEN, READY_SOURCE, READY_WAKE, type Waiter } from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import { systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { SHORT_SLEEP_MS, SPIN_MS, type SpinPolicy } from './spin-policy.ts';
import { ThreadClock } from './thread-clock.ts';

const POLLIN = 1;
const POLLOUT = 4;
/** POLLERR, POLLHUP and POLLNVAL. */
const POLL_BROKEN = 0x38;
const POLLFD_BYTES = 8;
/** Questions between two looks at the clock: some ten microseconds. */
const POLLS_PER_LOOK = 8;
const EFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;

/** An eventfd: a counter that one thread raises and another waits for. */
export function openWakeup(): number {
  const fd = systemCalls().eventfd(0, EFD_NONBLOCK_CLOEXEC);
  if (fd < 0) throw systemCallFailed('making an eventfd');
  return fd;
}

/** Raises the counter of a wakeup; `scratch` is 8 bytes of the caller's arena. */
export function raiseWakeup(fd: number, arena: Arena, scratch: number): void {
  arena.view.setBigUint64(scratch, 1n, true);
  systemCalls().write(fd, arena.base + scratch, 8);
}

/** What a PollWaiter waits for. */
export interface PollFds {
  readonly wakeup: number;
  /** Descriptors that packets come from; -1 for one that is not there. */
  readonly sources: readonly number[];
  /** Descriptors that `waitForSink` knows by their place here. */
  readonly sinks: readonly number[];
}

/** The waiter's times, in milliseconds: one array, whose numbers are written in place. */
const ENDED = 0;
const SPUN = 1;
const SLEPT = 2;

export class PollWaiter implements Waiter {
  wasQuiet = false;
  readonly #times = new Float64Array(3);
  readonly #clock: ThreadClock;
  readonly #wakeup: number;
  readonly #count: number;
  readonly #polls: number;
  readonly #sinkPolls: number;
  readonly #timeout: number;
  readonly #scratch: number;
  readonly #base: number;
  readonly #view: DataView;
  readonly #calls = systemCalls();
  readonly #policy: SpinPolicy | undefined;

  /** Without a policy it never spins. */
  constructor(arena: Arena, fds: PollFds, policy?: SpinPolicy) {
    this.#clock = new ThreadClock(arena);
    this.#times[ENDED] = this.#clock.monotonicMs();
    this.#policy = policy;
    this.#wakeup = fds.wakeup;
    this.#base = arena.base;
    this.#view = arena.view;
    const polled = [fds.wakeup, ...fds.sources];
    this.#count = polled.length;
    this.#polls = arena.allocate((polled.length + fds.sinks.length) * POLLFD_BYTES, 8);
    this.#sinkPolls = this.#polls + polled.length * POLLFD_BYTES;
    this.#timeout = arena.allocate(16, 8);
    this.#scratch = arena.allocate(8, 8);
    polled.forEach((fd, i) => {
      this.#setPoll(this.#polls + i * POLLFD_BYTES, fd, POLLIN);
    });
    fds.sinks.forEach((fd, i) => {
      this.#setPoll(this.#sinkPolls + i * POLLFD_BYTES, fd, POLLOUT);
    });
  }

  /** When the last wait ended, by the clock that all threads share. */
  get endedMs(): number {
    return this.#times[ENDED]!;
  }

  /** Processor time since the thread was started, without what its waits spun, which is no work. Costs a system call. */
  workedMs(): number {
    return this.#clock.processorMs() - this.#times[SPUN]!;
  }

  /** How long all its waits together slept. */
  get sleptMs(): number {
    return this.#times[SLEPT]!;
  }

  /** From now on source `index` is `fd`; -1: nothing, the kernel passes over it. */
  setSource(index: number, fd: number): void {
    this.#setPoll(this.#polls + (1 + index) * POLLFD_BYTES, fd, POLLIN);
  }

  wait(timeoutMs = -1): number {
    const ready = (this.#policy?.spinning && this.#spin(this.#policy)) || this.#sleep(timeoutMs);
    // The time is up; or EINTR, a signal for the process: the caller comes back.
    return ready <= 0 ? 0 : this.#readyBits(ready);
  }

  /** `ready`: of how many descriptors there is something to tell. */
  #readyBits(ready: number): number {
    let bits = 0;
    let left = ready;
    for (let i = 0; left > 0 && i < this.#count; i++) {
      const events = this.#events(i);
      if (events === 0) continue;
      left--;
      if (i === 0) {
        bits |= READY_WAKE;
        this.#calls.read(this.#wakeup, this.#base + this.#scratch, 8);
        continue;
      }
      bits |= READY_SOURCE << (i - 1);
      if (i === 1 && (events & POLL_BROKEN) !== 0) bits |= READY_BROKEN;
    }
    return bits;
  }

  /** Asks without sleeping; whoever else wants the core gets it between two questions. */
  #spin(policy: SpinPolicy): number {
    this.#setTimeout(0);
    this.wasQuiet = false;
    const times = this.#times;
    const beginMs = this.#clock.monotonicMs();
    let ready = 0;
    do {
      for (let i = 0; i < POLLS_PER_LOOK && ready <= 0; i++) {
        ready = this.#calls.ppoll(this.#base + this.#polls, this.#count, this.#base + this.#timeout, 0);
        if (ready <= 0) this.#calls.schedYield();
      }
      times[ENDED] = this.#clock.monotonicMs();
    } while (ready <= 0 && times[ENDED]! < beginMs + SPIN_MS);
    times[SPUN]! += times[ENDED]! - beginMs;
    if (ready > 0) policy.caught();
    else policy.missed();
    return Math.max(ready, 0);
  }

  #sleep(timeoutMs: number): number {
    if (timeoutMs >= 0) this.#setTimeout(timeoutMs);
    const timeout = timeoutMs < 0 ? 0 : this.#base + this.#timeout;
    const times = this.#times;
    const beginMs = this.#clock.monotonicMs();
    const ready = this.#calls.ppoll(this.#base + this.#polls, this.#count, timeout, 0);
    const endedMs = this.#clock.monotonicMs();
    const sleptMs = endedMs - beginMs;
    times[ENDED] = endedMs;
    times[SLEPT]! += sleptMs;
    this.wasQuiet = sleptMs >= SHORT_SLEEP_MS;
    if (ready > 0) this.#policy?.slept(sleptMs);
    return ready;
  }

  waitForSink(timeoutMs: number, sink: number): boolean {
    this.#setTimeout(timeoutMs);
    const poll = this.#base + this.#sinkPolls + sink * POLLFD_BYTES;
    return this.#calls.ppoll(poll, 1, this.#base + this.#timeout, 0) > 0;
  }

  /**
   * Sleeps for so long, and for the thread's timer slack (50 µs unless somebody changed it) at most longer; shorter
   * where a wake-up comes. Packets do not end it: acknowledgements would, which it is cheaper to take together, too.
   */
  rest(microseconds: number): void {
    this.#view.setUint32(this.#timeout, 0, true);
    this.#view.setUint32(this.#timeout + 8, microseconds * 1000, true);
    this.#calls.ppoll(this.#base + this.#polls, 1, this.#base + this.#timeout, 0);
  }

  #setTimeout(timeoutMs: number): void {
    this.#view.setUint32(this.#timeout, Math.floor(timeoutMs / 1000), true);
    this.#view.setUint32(this.#timeout + 8, (timeoutMs % 1000) * 1_000_000, true);
  }

  #setPoll(at: number, fd: number, events: number): void {
    this.#view.setInt32(at, fd, true);
    this.#view.setInt16(at + 4, events, true);
  }

  /** What ppoll found; an error or a hang-up counts as readiness, for the read that follows to see. */
  #events(index: number): number {
    return this.#view.getInt16(this.#polls + index * POLLFD_BYTES + 6, true);
  }
}
