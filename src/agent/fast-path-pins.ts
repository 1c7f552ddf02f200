/**
 * What outlives the agent where `--pin` asks for it: maps and links, by names in a bpf file system. Each device of each
 * network namespace has a directory of its own, `/sys/fs/bpf/tortie/NAMESPACE-DEVICE`, the namespace by its inode.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { UnavailableError } from '../base/errors.ts';
import type { HostFinding } from '../host/host-check.ts';

const BPF_FILE_SYSTEM = 0xcafe4a11;
/** Part of the names: pins of another layout are not taken over. */
const LAYOUT = 'v1';

export function pinRoot(env: NodeJS.ProcessEnv): string {
  return env.TORTIE_BPF_DIR || '/sys/fs/bpf/tortie';
}

/** For a device of the calling thread's namespace. */
export function pinDirectory(root: string, device: string): string {
  return join(root, `${statSync('/proc/thread-self/ns/net').ino}-${device}`);
}

/** @throws UnavailableError where nothing can be pinned below `root` */
export function requirePinRoot(root: string): void {
  let there = root;
  while (!existsSync(there)) there = dirname(there);
  if (statfsSync(there).type >>> 0 === BPF_FILE_SYSTEM) return;
  throw new UnavailableError(
    'ERR_EBPF_PIN',
    `--pin: expected a bpf file system at ${dirname(root)}, got ${there} without one`,
    {
      hint: `mount -t bpf bpf ${dirname(root)}`,
    },
  );
}

export class Pins {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  path(name: string): string {
    return join(this.directory, `${LAYOUT}-${name}`);
  }

  remove(name: string): void {
    if (existsSync(this.path(name))) unlinkSync(this.path(name));
  }

  /** Names of this layout. */
  names(): string[] {
    return readdirSync(this.directory).flatMap((file) =>
      file.startsWith(`${LAYOUT}-`) ? [file.slice(LAYOUT.length + 1)] : [],
    );
  }

  /** Whatever lies there, of any layout. Programs on pinned links are off their devices with it. */
  clear(): void {
    for (const file of readdirSync(this.directory)) unlinkSync(join(this.directory, file));
  }
}

/** Takes all pins of a device away. @returns how many there were */
export function removePins(directory: string): number {
  if (!existsSync(directory)) return 0;
  const files = readdirSync(directory);
  for (const file of files) unlinkSync(join(directory, file));
  rmdirSync(directory);
  return files.length;
}

/** Pins that nobody serves: they forward by the tables of when their agent stopped, or hang in the void. */
export function checkPins(root: string): HostFinding[] {
  if (!existsSync(root)) return [];
  const own = String(statSync('/proc/thread-self/ns/net').ino);
  return readdirSync(root).flatMap((name): HostFinding[] => {
    const [, namespace = '', device = ''] = /^(\d+)-(.+)$/.exec(name) ?? [];
    if (namespace !== own)
      return isNamespaceThere(namespace) ? [] : [stale(root, name, 'of a network namespace that is gone')];
    const carrier = `/sys/class/net/${device}/carrier`;
    if (!existsSync(carrier)) return [stale(root, name, `of a device ${device} that is gone`)];
    return isServed(carrier) ? [] : [unserved(root, name, device)];
  });
}

function stale(root: string, name: string, what: string): HostFinding {
  const path = join(root, name);
  return { level: 'warn', subject: 'pins', text: `${path} is ${what}`, mend: `rm -r ${path}` };
}

function unserved(root: string, name: string, device: string): HostFinding {
  const text = `${join(root, name)}: the fast path of ${device} goes on by the routes of when its agent stopped`;
  return {
    level: 'warn',
    subject: 'pins',
    text,
    mend: 'start the agent again, or take them away with --cleanup',
  };
}

/** A TUN has a carrier while a process serves it; a device that is down tells nothing (EINVAL). */
function isServed(carrier: string): boolean {
  try {
    return readFileSync(carrier, 'utf8').trim() === '1';
  } catch {
    return false;
  }
}

/** Whether a process or a name holds it. */
function isNamespaceThere(inode: string): boolean {
  const processes = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map((pid) => `/proc/${pid}/ns/net`);
  const named = existsSync('/run/netns')
    ? readdirSync('/run/netns').map((name) => join('/run/netns', name))
    : [];
  return [...named, ...processes].some((path) => {
    try {
      return String(statSync(path).ino) === inode;
    } catch {
      // It ended meanwhile.
      return false;
    }
  });
}
