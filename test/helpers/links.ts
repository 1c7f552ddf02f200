/** Network devices in namespaces, as `ip` shows them. */
import { execFileSync } from 'node:child_process';
import { poll, systemClock } from '../../src/base/clock.ts';

const DEADLINE_MS = 20_000;

interface Link {
  readonly flags: readonly string[];
  readonly operstate: string;
}

/**
 * Waits until what is sent by these devices leaves them. One that is up and has just got its carrier gets its queue when the
 * kernel's worker comes to it, up to a second later, and until then it loses everything; its operational state follows in
 * the same step. One that is down gets its queue with `ip link set up`.
 */
export async function untilQueued(namespace: string, ...devices: readonly string[]): Promise<void> {
  for (const device of devices) {
    let link = look(namespace, device);
    await poll(systemClock, DEADLINE_MS, 10, async () => {
      link = look(namespace, device);
      return isQueued(link) || undefined;
    });
    if (!isQueued(link)) throw new Error(`${device} in ${namespace} has no queue: ${JSON.stringify(link)}`);
  }
}

function look(namespace: string, device: string): Link {
  const text = execFileSync('ip', ['-n', namespace, '-json', 'link', 'show', device], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  return (JSON.parse(text) as [Link])[0];
}

/** A device that was up with a carrier from the first never had another state than UNKNOWN. */
function isQueued({ flags, operstate }: Link): boolean {
  return !flags.includes('UP') || operstate === 'UP' || operstate === 'UNKNOWN';
}
