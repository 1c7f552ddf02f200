/**
 * Network namespaces, entered by the calling thread only: setns(2) is per thread, so everything that `fn`
 * opens synchronously belongs to the namespace, and the thread is back before anybody else runs on it.
 */
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { FailedError, UnavailableError } from '../base/errors.ts';
import { ENOENT, EPERM, errnoName, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';

const CLONE_NEWNET = 0x40000000;
const O_RDONLY_CLOEXEC = 0o2000000;
/** In a worker `self` would be the main thread's. */
const OWN_NAMESPACE = isMainThread ? '/proc/self/ns/net' : '/proc/thread-self/ns/net';

/** The path by which `ip netns` knows a name. */
export function namedNetworkNamespace(name: string): string {
  return `/run/netns/${name}`;
}

/** Runs `fn` in the network namespace at `path` and returns here. `fn` must not wait for anything. */
export function inNetworkNamespace<T>(path: string, fn: () => T): T {
  const calls = systemCalls();
  const own = calls.open(OWN_NAMESPACE, O_RDONLY_CLOEXEC);
  if (own < 0) throw systemCallFailed(`opening ${OWN_NAMESPACE}`);
  try {
    enter(path);
    return runAndReturn(own, fn);
  } finally {
    calls.close(own);
  }
}

function runAndReturn<T>(own: number, fn: () => T): T {
  let result: T;
  try {
    result = fn();
  } catch (error) {
    returnTo(own);
    throw error;
  }
  returnTo(own);
  if (result instanceof Promise) throw new Error('bug: inNetworkNamespace was given an async function');
  return result;
}

/** Nothing could be right after a failure here: the thread would go on in a foreign namespace. */
function returnTo(own: number): void {
  if (systemCalls().setns(own, CLONE_NEWNET) < 0)
    throw systemCallFailed('returning to our own network namespace');
}

function enter(path: string): void {
  const calls = systemCalls();
  const target = calls.open(path, O_RDONLY_CLOEXEC);
  if (target < 0) {
    const errno = calls.errno();
    if (errno === ENOENT)
      throw new FailedError('ERR_NO_NAMESPACE', `there is no network namespace at ${path}`, {
        hint: '`ip netns` lists those that exist',
      });
    throw systemCallFailed(`opening the network namespace ${path}`, errno);
  }
  const result = calls.setns(target, CLONE_NEWNET);
  const errno = calls.errno();
  calls.close(target);
  if (result < 0) {
    if (errno === EPERM)
      throw new UnavailableError(
        'ERR_PRIVILEGE',
        `entering ${path} needs CAP_SYS_ADMIN: ${errnoName(errno)}`,
        {
          hint: 'run as root, or in a user namespace of your own',
        },
      );
    throw systemCallFailed(`entering the network namespace ${path}`, errno);
  }
}

/** The index of the interface `name` in the calling thread's namespace. */
export function interfaceIndex(name: string): number {
  const index = systemCalls().ifNameToIndex(name);
  if (index === 0)
    throw new FailedError('ERR_NO_INTERFACE', `there is no interface ${name} in this network namespace`, {
      hint: `present: ${interfaceNames().join(', ')}`,
    });
  return index;
}

function interfaceNames(): string[] {
  const path = isMainThread ? '/proc/self/net/dev' : '/proc/thread-self/net/dev';
  return [...readFileSync(path, 'utf8').matchAll(/^\s*([^\s:]+):/gm)].map((match) => match[1] ?? '');
}
