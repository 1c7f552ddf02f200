/** What a lab needs of the machine, said before anything is made. */
import { accessSync, constants } from 'node:fs';
import { UnavailableError } from '../base/errors.ts';

/** Real, or of a user namespace. */
export function requireRoot(): void {
  if (process.geteuid?.() !== 0)
    throw new UnavailableError('ERR_PRIVILEGE', 'a lab makes network namespaces and devices: it needs root', {
      hint: 'sudo tortie lab up',
    });
}

export function requireTunDevice(): void {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch (cause) {
    const closed = (cause as NodeJS.ErrnoException).code === 'EACCES';
    throw new UnavailableError(
      'ERR_TUN_MISSING',
      closed ? '/dev/net/tun is closed to this user' : '/dev/net/tun is missing',
      {
        cause,
        hint: closed
          ? 'sudo chmod 666 /dev/net/tun (who opens it still needs rights over a network namespace), or: sudo tortie lab up'
          : 'modprobe tun, or: mkdir -p /dev/net && mknod /dev/net/tun c 10 200',
      },
    );
  }
}
