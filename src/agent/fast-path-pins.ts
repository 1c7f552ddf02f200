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
/** Part of the maps' names, to be raised with the meaning of their bytes; shapes are compared besides. */
const LAYOUT = 'v2';
const MAP = /^v\d+-map-/;
/** The first version wrote its layout before a link's name, too. */
const LINK = /^(?:v\d+-)?(link-.+)$/;

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

  map(name: string): string {
    return join(this.directory, `${LAYOUT}-map-${name}`);
  }

  /** Of this layout and of others. Programs on their devices keep the maps that they use. */
  removeMaps(): void {
    for (const file of readdirSync(this.directory))
      if (MAP.test(file)) unlinkSync(join(this.directory, file));
  }

  /** The paths of links by their names, whatever maps their programs use. */
  links(): Map<string, string> {
    const paths = new Map<string, string>();
    for (const file of readdirSync(this.directory)) {
      const name = LINK.exec(file)?.[1];
      if (name !== undefined) paths.set(name, join(this.directory, file));
    }
    return paths;
  }

  link(name: string): string {
    return this.links().get(name) ?? join(this.directory, name);
  }

  removeLink(name: string): void {
    const path = this.links().get(name);
    if (path !== undefined) unlinkSync(path);
  }

  /** Whatever lies there. Programs on pinned links are off their devices with it. */
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
