/**
 * Labs without root. Theory of operation.
 *
 * Whoever is not root may still make namespaces inside a user namespace. One process of ours, the holder, keeps
 * such a user, network and mount namespace for all labs of a user. A command of the lab that makes or enters
 * namespaces is run again inside (`nsenter`), where it is root over all that the lab consists of and nothing else:
 * the same code as with real root. In the holder's mounts /run and /etc are of our own, their old content linked,
 * since `ip netns` writes there. State is below $XDG_RUNTIME_DIR, outside of these, so that `lab env`, `lab list`
 * and every command on resources need not go in.
 *
 * The holder starts with the first lab and ends after the last. The lock keeps a command that ends it from one that
 * is about to go in.
 */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { poll } from '../base/clock.ts';
import { UnavailableError } from '../base/errors.ts';
import { logTail } from './agents.ts';
import { runInForeground } from './foreground.ts';
import type { LabContext } from './lab.ts';
import { withLock } from './lock.ts';
import { LABS_DIRECTORY_VARIABLE } from './names.ts';
import { requireTunDevice } from './privileges.ts';
import {
  endProcesses,
  formatProcessId,
  identify,
  isAlive,
  type ProcessId,
  runningProcess,
  startDetached,
} from './processes.ts';
import { labNames, removeIfEmpty } from './record.ts';
import { ensureRelays } from './relay.ts';

const START_DEADLINE_MS = 20_000;
const ENTER_DEADLINE_MS = 5_000;

/** Commands that make or enter namespaces; the others need only files. */
const ENTERING: readonly string[] = ['up', 'down', 'exec', 'verify', 'demo', 'capture', 'fault'];
/** Of these, the ones that may begin with nothing. */
const STARTING: readonly string[] = ['up', 'demo'];

/**
 * A directory that `ip netns` writes to becomes one of our own; what was in it is linked and works as before. /tmp
 * is only the place from which the old one is moved in.
 */
const HOLDER_SCRIPT = `
set -eu
own() {
  mount --rbind "$1" /tmp
  mount -t tmpfs -o mode=755 tortie "$1"
  mkdir "$1/.host"
  mount --move /tmp "$1/.host"
  for entry in "$1"/.host/*; do
    name=\${entry##*/}
    [ "$name" = netns ] || [ ! -e "$entry" ] || ln -s ".host/$name" "$1/$name"
  done
}
own /run
own /etc
mkdir /etc/netns
ip link set dev lo up
echo ready
exec sleep 2147483647
`;

/** Whether this command must be run again by runInHolder. */
export function needsHolder(words: readonly string[], context: LabContext, uid: number): boolean {
  const [command = ''] = words;
  if (uid === 0 || !ENTERING.includes(command) || words.includes('--help')) return false;
  return STARTING.includes(command) || labNames(context.labsDirectory).length > 0;
}

/** Runs `tortie lab WORDS…` inside the holder's namespaces. @returns its status */
export async function runInHolder(words: readonly string[], context: LabContext): Promise<number> {
  const { env, labsDirectory } = context;
  if (STARTING.includes(words[0] ?? '')) requireTunDevice();
  if (!env.XDG_RUNTIME_DIR)
    throw new UnavailableError(
      'ERR_LAB_RUNTIME_DIR',
      'a lab without root keeps its state in $XDG_RUNTIME_DIR, which is not set',
      { hint: 'export XDG_RUNTIME_DIR=/run/user/$(id -u), or another directory of yours; or use sudo' },
    );
  mkdirSync(labsDirectory, { recursive: true, mode: 0o700 });
  const { holder, ended } = await locked(context, async () => {
    const holder = runningProcess(pidFile(labsDirectory)) ?? (await startHolder(context));
    return { holder, ...(await enter(holder, words, context)) };
  });
  const status = await ended;
  if (status === 0 && STARTING.includes(words[0] ?? ''))
    await locked(context, () => ensureRelays(['nsenter', ...enterFlags(holder), '--'], context));
  await locked(context, () => endIfIdle(holder, context));
  removeIfEmpty(labsDirectory, 2);
  return status;
}

/** Resolves once the command is inside, where endIfIdle sees it. `ended` gives its status. */
async function enter(
  holder: ProcessId,
  words: readonly string[],
  { env, tortie, labsDirectory, clock }: LabContext,
): Promise<{ ended: Promise<number> }> {
  // nsenter forgets the working directory.
  const inPlace = ['sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', process.cwd()];
  let pid: number | undefined;
  const ended = runInForeground(
    'nsenter',
    [...enterFlags(holder), '--', ...inPlace, ...tortie, 'lab', ...words],
    { ...env, [LABS_DIRECTORY_VARIABLE]: labsDirectory },
    (child) => {
      pid = child.pid;
    },
  );
  const inside = poll(clock, ENTER_DEADLINE_MS, 5, async () =>
    pid !== undefined && userNamespaceOf(pid) === userNamespaceOf(holder.pid) ? true : undefined,
  );
  await Promise.race([ended, inside]);
  return { ended };
}

function enterFlags(holder: ProcessId): string[] {
  return ['--user', '--mount', '--net', '--preserve-credentials', '--target', `${holder.pid}`];
}

async function startHolder({ labsDirectory, clock, env }: LabContext): Promise<ProcessId> {
  const logFile = join(labsDirectory, '.holder.log');
  rmSync(logFile, { force: true });
  const namespaces = ['--user', '--map-root-user', '--mount', '--net'];
  const id = await startDetached('unshare', [...namespaces, 'sh', '-c', HOLDER_SCRIPT], { logFile, env });
  const ready = await poll(clock, START_DEADLINE_MS, 10, async () => {
    if (readFileSync(logFile, 'utf8').endsWith('ready\n')) return true;
    return isAlive(id) ? undefined : false;
  });
  if (!ready)
    throw new UnavailableError(
      'ERR_USER_NAMESPACE',
      `a lab without root needs a user namespace, which was refused: ${logTail(logFile) || 'no word within 20 s'}`,
      {
        hint: 'as root, what applies: sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces=10000; or: sudo tortie lab up',
      },
    );
  writeFileSync(pidFile(labsDirectory), formatProcessId(id));
  return id;
}

/** After the last lab, where nobody is inside any more. */
async function endIfIdle(holder: ProcessId, { labsDirectory, clock }: LabContext): Promise<void> {
  if (labNames(labsDirectory).length > 0) return;
  const namespace = userNamespaceOf(holder.pid);
  const others = readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== holder.pid && userNamespaceOf(pid) === namespace)
    .filter((pid) => identify(pid) !== undefined); // zombies keep their namespace
  if (namespace === undefined || others.length > 0) return;
  await endProcesses([holder], clock);
  rmSync(pidFile(labsDirectory), { force: true });
  rmSync(join(labsDirectory, '.holder.log'), { force: true });
}

/** undefined for processes that are gone, or not ours. */
function userNamespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/user`);
  } catch {
    return undefined;
  }
}

function pidFile(labsDirectory: string): string {
  return join(labsDirectory, '.holder.pid');
}

function locked<T>(context: LabContext, work: () => Promise<T>): Promise<T> {
  return withLock(
    join(context.labsDirectory, '.holder'),
    'the namespaces of labs without root',
    context,
    work,
  );
}
