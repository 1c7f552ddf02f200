/** Word to the service manager that started us (sd_notify(3)), by which systemd knows when a unit of `Type=notify` is up. */
import { systemCalls } from './libc.ts';
import { openSocket, SOCK_DGRAM } from './socket-options.ts';

const AF_UNIX = 1;
const AF_UNIX_BYTES = 2;

/**
 * `READY=1`, `STOPPING=1`. False where nobody asked to be told (no NOTIFY_SOCKET), or where nobody listens: whoever
 * waits for it says so himself.
 */
export function notifyServiceManager(state: string, env: NodeJS.ProcessEnv): boolean {
  const path = env.NOTIFY_SOCKET;
  // A path or, with @, an abstract name; other address families are for virtual machines.
  if (path === undefined || !/^[/@]/.test(path)) return false;
  const calls = systemCalls();
  const fd = openSocket(AF_UNIX, SOCK_DGRAM, 0, 'the socket of the service manager');
  try {
    const address = unixAddress(path);
    const data = Buffer.from(state);
    return calls.sendto(fd, data, data.length, 0, address, address.length) === data.length;
  } finally {
    calls.close(fd);
  }
}

/** struct sockaddr_un as far as the name goes. */
function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  const bytes = new Uint8Array(AF_UNIX_BYTES + name.length);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(name, AF_UNIX_BYTES);
  return bytes;
}
