/** Word to a service manager: what it would read from its socket, by a path and by an abstract name. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Arena } from '../../../src/io/arena.ts';
import { systemCalls } from '../../../src/io/libc.ts';
import { notifyServiceManager } from '../../../src/io/service-notify.ts';
import { openSocket, SOCK_DGRAM } from '../../../src/io/socket-options.ts';

const AF_UNIX = 1;
const directory = mkdtempSync(join(tmpdir(), 'tortie-notify-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What a manager that listens at `name` (with @ for abstract) has read after `act`. */
function heardAt(name: string, act: () => void): string {
  const fd = openSocket(AF_UNIX, SOCK_DGRAM, 0, 'a manager');
  try {
    const path = Buffer.from(name.replace(/^@/, '\0'));
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), path]);
    expect(systemCalls().bind(fd, address, address.length)).toBe(0);
    act();
    const arena = new Arena(64);
    const length = systemCalls().read(fd, arena.base, 64);
    return Buffer.from(arena.bytes.subarray(0, length)).toString();
  } finally {
    systemCalls().close(fd);
  }
}

test.each([join(directory, 'notify'), `@tortie-test-${process.pid}`])('%s', (name) => {
  const said = heardAt(name, () => {
    expect(notifyServiceManager('READY=1', { NOTIFY_SOCKET: name })).toBe(true);
  });
  expect(said).toBe('READY=1');
});

test('nobody asked, nobody listens, or it listens by other means: false, and no error', () => {
  for (const env of [{}, { NOTIFY_SOCKET: join(directory, 'nobody') }, { NOTIFY_SOCKET: 'vsock:2:1234' }])
    expect(notifyServiceManager('READY=1', env)).toBe(false);
});
