/**
 * The first `ip netns add` after boot mounts /run/netns on itself, and nothing ever unmounts it. A lab that
 * caused that undoes it when it was the last to need it, so that mounts are as they were before `up`.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { NETNS_DIRECTORY } from './names.ts';
import { runProgram } from './program.ts';
import { labNames } from './record.ts';

const marker = (labsDirectory: string) => join(labsDirectory, '.netns-mount');

/** To be called before the first namespace is made. */
export function noteNamespaceMount(labsDirectory: string): void {
  if (isMounted()) return;
  mkdirSync(labsDirectory, { recursive: true });
  writeFileSync(marker(labsDirectory), existsSync(NETNS_DIRECTORY) ? 'mount\n' : 'mount and directory\n');
}

/** To be called after the last lab's state is gone; leaves the mount where a namespace still needs it. */
export async function forgetNamespaceMount(labsDirectory: string): Promise<void> {
  let noted: string;
  try {
    noted = readFileSync(marker(labsDirectory), 'utf8');
  } catch {
    return; // it was there before us
  }
  if (labNames(labsDirectory).length > 0) return;
  if (isMounted() && readdirSync(NETNS_DIRECTORY).length === 0) await runProgram('umount', [NETNS_DIRECTORY]);
  if (noted.includes('directory') && !isMounted()) removeDirectory();
  rmSync(marker(labsDirectory), { force: true });
}

function removeDirectory(): void {
  try {
    rmdirSync(NETNS_DIRECTORY);
  } catch {
    // somebody's namespace is in it by now
  }
}

/** A mount point is on another mount than its parent; mountinfo would also list what another mount hides. */
function isMounted(): boolean {
  const own = mountOf(NETNS_DIRECTORY);
  return own !== undefined && own !== mountOf(dirname(NETNS_DIRECTORY));
}

function mountOf(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined; // not there, so nothing is mounted on it
  }
  try {
    return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  } finally {
    closeSync(fd);
  }
}
