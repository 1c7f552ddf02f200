/**
 * Theory of operation of io/: the only folder with system calls of its own. It implements dataplane/ports.ts.
 *
 *   libc  errno  arena       the calls, by koffi without a compiler; memory that both sides see
 *   tun  raw-socket  udp-socket  packet-socket  (socket-sink)  waiter   the packet loops' ends: batches in, batches out, waiting
 *   netns  capture  probe    what the lab looks with: another namespace's frames and echoes
 *   file-lock                the datastore's lock, released by the kernel when its holder dies
 *
 * On the packet path every address and table lies in one Arena, laid at set-up; a call then passes numbers
 * only, so nothing is allocated. Off it, whatever reads best. The kernel's structures are written at their
 * offsets; constants are those of little-endian Linux, the same on x86_64 and arm64.
 *
 * This file: the binding, loaded on first use, so that commands without system calls do not pay for it.
 * Two kinds of pointer parameter: `void *` takes a Uint8Array (set-up, where convenience counts), `uintptr_t`
 * takes an address as a plain number (the packet loops: no object, no BigInt, nothing allocated per call).
 * A failing call returns -1; `errno()` must be read before the next call on this thread.
 */
import { createRequire } from 'node:module';

type Koffi = typeof import('koffi');
type Pointer = Uint8Array | null;

const require = createRequire(import.meta.url);

let loaded: { koffi: Koffi; library: import('koffi').LibraryHandle } | undefined;

/** koffi and libc.so.6, loaded once per thread. */
export function libc(): { koffi: Koffi; library: import('koffi').LibraryHandle } {
  if (!loaded) {
    const koffi: Koffi = require('koffi');
    loaded = { koffi, library: koffi.load('libc.so.6') };
  }
  return loaded;
}

/** The calls that io makes, with the types that koffi turns their prototypes into. */
export interface SystemCalls {
  errno(): number;
  /** The address of `bytes`' first byte; it stays valid only for memory that never moves (an Arena's). */
  addressOf(bytes: Uint8Array): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  read(fd: number, address: number, length: number): number;
  write(fd: number, address: number, length: number): number;
  writev(fd: number, vectors: number, count: number): number;
  ioctl(fd: number, request: number, argument: Pointer): number;
  ioctlValue(fd: number, request: number, argument: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Pointer, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Pointer, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Pointer, length: Pointer): number;
  sendto(
    fd: number,
    data: Pointer,
    length: number,
    flags: number,
    address: Pointer,
    addressLength: number,
  ): number;
  recvmsg(fd: number, message: number, flags: number): number;
  sendmmsg(fd: number, messages: number, count: number, flags: number): number;
  recvmmsg(fd: number, messages: number, count: number, flags: number, timeout: number): number;
  ppoll(fds: number, count: number, timeout: number, signals: number): number;
  schedYield(): number;
  clockGettime(clock: number, timespec: number): number;
  eventfd(initial: number, flags: number): number;
  setns(fd: number, type: number): number;
  ifNameToIndex(name: string): number;
}

let bound: SystemCalls | undefined;

/** The system calls, bound once per thread; all at once, since binding takes less than a millisecond. */
export function systemCalls(): SystemCalls {
  bound ??= bindSystemCalls();
  return bound;
}

/**
 * A literal: filled key by key it would be a dictionary to V8, and each call on the packet path begin with a search in it,
 * which took a fifteenth of the time that threads woken for single packets spent outside of the kernel.
 */
function bindSystemCalls(): SystemCalls {
  const { koffi, library } = libc();
  const func = (prototype: string) => library.func(prototype);
  // memset returns its first argument, and with a length of 0 does nothing else: an address, without a pointer type.
  const memset = func('uintptr_t memset(void *bytes, int value, size_t length)');
  return {
    errno: () => koffi.errno(),
    addressOf: (bytes) => Number(memset(bytes, 0, 0)),
    open: func('int open(const char *path, int flags)'),
    close: func('int close(int fd)'),
    fcntl: func('int fcntl(int fd, int command, long argument)'),
    read: func('long read(int fd, uintptr_t buffer, size_t length)'),
    write: func('long write(int fd, uintptr_t buffer, size_t length)'),
    writev: func('long writev(int fd, uintptr_t vectors, int count)'),
    ioctl: func('int ioctl(int fd, unsigned long request, void *argument)'),
    ioctlValue: func('int ioctl(int fd, unsigned long request, unsigned long argument)'),
    socket: func('int socket(int domain, int type, int protocol)'),
    bind: func('int bind(int fd, void *address, uint32_t length)'),
    setsockopt: func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
    getsockopt: func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
    sendto: func(
      'long sendto(int fd, void *data, size_t length, int flags, void *address, uint32_t addressLength)',
    ),
    recvmsg: func('long recvmsg(int fd, uintptr_t message, int flags)'),
    sendmmsg: func('int sendmmsg(int fd, uintptr_t messages, unsigned int count, int flags)'),
    recvmmsg: func(
      'int recvmmsg(int fd, uintptr_t messages, unsigned int count, int flags, uintptr_t timeout)',
    ),
    ppoll: func('int ppoll(uintptr_t fds, unsigned long count, uintptr_t timeout, uintptr_t signals)'),
    schedYield: func('int sched_yield()'),
    clockGettime: func('int clock_gettime(int clock, uintptr_t timespec)'),
    eventfd: func('int eventfd(unsigned int initial, int flags)'),
    setns: func('int setns(int fd, int type)'),
    ifNameToIndex: func('unsigned int if_nametoindex(const char *name)'),
  };
}
