/**
 * The binding to the C library: every system call of ours goes through here, by koffi, without a compiler.
 * Loaded on first use, so that commands that need no system call of their own do not pay for it.
 */
import { createRequire } from 'node:module';

type Koffi = typeof import('koffi');

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
