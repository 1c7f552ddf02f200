/**
 * Without root, the etcd members are in a network that only the holder's namespaces reach. The relay makes them
 * ports of this machine's loopback: one process that was started outside with the listening sockets (a socket stays in
 * the namespace that it was made in) and went inside, where it reaches the members.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { FailedError } from '../base/errors.ts';
import { parsePrefix } from '../ip/prefix.ts';
import { callersEnvironment } from './agents.ts';
import { etcdEndpoints } from './etcd.ts';
import type { LabContext } from './lab.ts';
import { type LabPaths, labPaths } from './names.ts';
import { formatProcessId, runningProcess, startDetached } from './processes.ts';
import { labNames, readRecord } from './record.ts';

/** The first descriptor after the standard streams. */
const FIRST_INHERITED = 3;
const ADDRESS = '127.0.0.1';

/** Starts a relay for each lab on etcd that has none. `enter` are the words that lead inside. */
export async function ensureRelays(
  enter: readonly string[],
  { labsDirectory, tortie, env }: LabContext,
): Promise<void> {
  for (const lab of labNames(labsDirectory)) {
    const paths = labPaths(labsDirectory, lab);
    const management = readRecord(labsDirectory, lab)?.record.management;
    const subnet = management && parsePrefix(management);
    if (!subnet || runningProcess(paths.relayPid)) continue;
    const targets = etcdEndpoints(subnet);
    const servers = await Promise.all(targets.map(listen));
    const [program = '', ...words] = enter;
    mkdirSync(dirname(paths.relayPid), { recursive: true });
    const id = await startDetached(program, [...words, ...tortie, 'lab', 'relay', ...targets], {
      logFile: paths.relayLog,
      env: callersEnvironment(env),
      inherit: servers.map(descriptorOf),
    });
    const endpoints = servers.map((server) => `${ADDRESS}:${(server.address() as AddressInfo).port}`);
    for (const server of servers) server.close();
    writeFileSync(paths.relayEndpoints, `${endpoints.join('\n')}\n`);
    writeFileSync(paths.relayPid, formatProcessId(id));
  }
}

function listen(): Promise<Server> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, ADDRESS, () => resolve(server));
  });
}

function descriptorOf(server: Server): number {
  const { _handle: handle } = server as unknown as { _handle?: { fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0)
    throw new FailedError('ERR_LAB_ETCD', 'this Node.js does not tell the descriptor of a listening socket');
  return handle.fd;
}

/** Where this machine reaches the members, in their order; undefined where no relay runs. */
export function relayedEndpoints(paths: LabPaths): string[] | undefined {
  if (!runningProcess(paths.relayPid)) return undefined;
  return readFileSync(paths.relayEndpoints, 'utf8').trim().split('\n');
}

/** `tortie lab relay`: what arrives at the nth inherited socket goes to the nth target, until the process is ended. */
export function runRelay(targets: readonly string[]): Promise<never> {
  for (const [position, target] of targets.entries()) {
    const [host = '', port] = target.split(':');
    createServer({ allowHalfOpen: true }, (near) => join(near, connect(Number(port), host))).listen({
      fd: FIRST_INHERITED + position,
    });
  }
  return new Promise(() => {});
}

function join(near: Socket, far: Socket): void {
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.pipe(other);
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
}
