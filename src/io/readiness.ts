/**
 * Hears at once when a descriptor can be read, of a kind that Node cannot wait for (netlink): ppoll on a thread
 * of libuv's pool, so nothing is polled in between and the event loop stays free. Each wait ends after a second
 * at the latest, so that a process which ends without `stop` is not held up by it for longer.
 */
import { Arena } from './arena.ts';
import { libc, systemCalls } from './libc.ts';
import { openWakeup, raiseWakeup } from './waiter.ts';

const POLLIN = 1;
const POLLFD_BYTES = 8;
const LONGEST_WAIT_S = 1;

type AsyncPpoll = {
  async(
    fds: number,
    count: number,
    timeout: number,
    signals: number,
    done: (error: Error | null, ready: number) => void,
  ): void;
};

/** Calls `onReady` until stopped; it must read until nothing is left. */
export function watchReadable(fd: number, onReady: () => void): { stop(): Promise<void> } {
  const ppoll = libc().library.func(
    'int ppoll(uintptr_t fds, unsigned long count, uintptr_t timeout, uintptr_t signals)',
  ) as unknown as AsyncPpoll;
  const arena = new Arena(64);
  const polls = arena.allocate(2 * POLLFD_BYTES);
  const timeout = arena.allocate(16);
  const scratch = arena.allocate(8);
  const wakeup = openWakeup();
  [fd, wakeup].forEach((each, i) => {
    arena.view.setInt32(polls + i * POLLFD_BYTES, each, true);
    arena.view.setInt16(polls + i * POLLFD_BYTES + 4, POLLIN, true);
  });
  arena.view.setUint32(timeout, LONGEST_WAIT_S, true);
  let stopping = false;
  let stopped = () => {};
  const ended = new Promise<void>((resolve) => {
    stopped = resolve;
  });
  const wait = () => {
    ppoll.async(arena.base + polls, 2, arena.base + timeout, 0, (_error, ready) => {
      if (stopping) {
        systemCalls().close(wakeup);
        stopped();
        return;
      }
      if (ready > 0) onReady();
      wait();
    });
  };
  wait();
  return {
    stop() {
      if (!stopping) {
        stopping = true;
        raiseWakeup(wakeup, arena, scratch);
      }
      return ended;
    },
  };
}
