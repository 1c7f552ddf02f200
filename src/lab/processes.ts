/**
 * The processes of a lab: agents that outlive the command that started them, and whatever else runs in the
 * lab's namespaces when it is taken down. A process is known by its pid and the time it started, since pids
 * come back; what belongs to a lab is told by its network namespace, so that nothing escapes `down`.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { type Clock, poll } from '../base/clock.ts';
import { namespacePath } from './names.ts';

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks after boot: field 22 of /proc/PID/stat. */
  readonly startedAt: string;
}

/** undefined where there is no such process, or only its zombie. */
export function identify(pid: number): ProcessId | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The second field, the name in parentheses, may hold blanks and parentheses itself.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startedAt = fields[18];
  return state === 'Z' || state === 'X' || startedAt === undefined ? undefined : { pid, startedAt };
}

export function isAlive(id: ProcessId): boolean {
  return identify(id.pid)?.startedAt === id.startedAt;
}

/** By SIGSTOP. */
export function isStopped(id: ProcessId): boolean {
  try {
    return /^State:\s*T/m.test(readFileSync(`/proc/${id.pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

export function formatProcessId(id: ProcessId): string {
  return `${id.pid} ${id.startedAt}\n`;
}

export function parseProcessId(text: string): ProcessId | undefined {
  const match = /^(\d+) (\d+)\n$/.exec(text);
  return match ? { pid: Number(match[1]), startedAt: match[2]! } : undefined;
}

/** The process whose id a file holds, if it runs. */
export function runningProcess(pidFile: string): ProcessId | undefined {
  try {
    const id = parseProcessId(readFileSync(pidFile, 'utf8'));
    return id && isAlive(id) ? id : undefined;
  } catch {
    return undefined;
  }
}

/** Starts a process that outlives us, both its streams appended to a file. */
export function startDetached(
  program: string,
  args: readonly string[],
  options: {
    readonly logFile: string;
    readonly env: NodeJS.ProcessEnv;
    /** Descriptors that it gets, from 3 on. */
    readonly inherit?: readonly number[];
  },
): Promise<ProcessId> {
  const log = openSync(options.logFile, 'a', 0o600);
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', log, log, ...(options.inherit ?? [])],
    env: options.env,
  });
  closeSync(log);
  child.unref();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => {
      // Already gone again: an identity that no process has.
      resolve(identify(child.pid!) ?? { pid: child.pid!, startedAt: '0' });
    });
  });
}

/** Every process in one of the namespaces, but for ourselves and those that started us. */
export function processesIn(namespaces: readonly string[]): ProcessId[] {
  const inodes = new Set(namespaces.flatMap((name) => inodeOf(name) ?? []));
  const spared = ourselvesAndAncestors();
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && !spared.has(Number(name)))
    .flatMap((name) => (inodes.has(networkNamespaceOf(name)) ? (identify(Number(name)) ?? []) : []));
}

/** False also where the namespace is gone, or is another one of the same name by now. */
export function isIn(id: ProcessId, namespace: string): boolean {
  return networkNamespaceOf(`${id.pid}`) === inodeOf(namespace);
}

function inodeOf(namespace: string): string | undefined {
  try {
    return `net:[${statSync(namespacePath(namespace)).ino}]`;
  } catch {
    return undefined;
  }
}

function networkNamespaceOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return ''; // gone meanwhile
  }
}

function ourselvesAndAncestors(): ReadonlySet<number> {
  const found = new Set<number>();
  let pid = process.pid;
  while (pid > 0 && !found.has(pid)) {
    found.add(pid);
    try {
      pid = Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    } catch {
      break;
    }
  }
  return found;
}

/** A process asked to end gets this long before it is killed. */
const GRACE_MS = 2_000;
const KILLED_MS = 5_000;

/** Ends processes: SIGTERM, then SIGKILL. @returns those that are still there */
export async function endProcesses(processes: readonly ProcessId[], clock: Clock): Promise<ProcessId[]> {
  signal(processes, 'SIGTERM');
  await allGone(processes, clock, GRACE_MS);
  signal(processes.filter(isAlive), 'SIGKILL');
  await allGone(processes, clock, KILLED_MS);
  return processes.filter(isAlive);
}

function signal(processes: readonly ProcessId[], name: 'SIGTERM' | 'SIGKILL'): void {
  for (const id of processes) {
    if (!isAlive(id)) continue;
    try {
      process.kill(id.pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

async function allGone(processes: readonly ProcessId[], clock: Clock, deadlineMs: number): Promise<void> {
  await poll(clock, deadlineMs, 20, async () => (processes.some(isAlive) ? undefined : true));
}
