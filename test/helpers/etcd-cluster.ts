/**
 * Real etcd members for tests: as many as wanted, on loopback, with TLS and client certificates (made by
 * openssl) or in plain, each behind a relay of ours that can be cut as a network can.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { poll, systemClock } from '../../src/base/clock.ts';

const START_DEADLINE_MS = 30_000;

export interface EtcdClusterOptions {
  readonly members?: number;
  readonly tls?: boolean;
  /** More of etcd's own flags. */
  readonly flags?: readonly string[];
}

/** Files of one certificate authority, a server certificate for 127.0.0.1 and a client's. */
export interface Certificates {
  readonly caFile: string;
  readonly serverCertificateFile: string;
  readonly serverKeyFile: string;
  readonly clientCertificateFile: string;
  readonly clientKeyFile: string;
}

function openssl(...words: readonly string[]): void {
  const result = spawnSync('openssl', words, { encoding: 'utf8', timeout: 20_000 });
  if (result.status !== 0) throw new Error(`openssl ${words.join(' ')} failed: ${result.stderr}`);
}

export function makeCertificates(directory: string): Certificates {
  const file = (name: string) => join(directory, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.pem'),
    '-days',
    '2',
    '-subj',
    '/CN=test CA',
  );
  for (const [name, usage] of [
    ['server', 'serverAuth,clientAuth'],
    ['client', 'clientAuth'],
  ]) {
    writeFileSync(
      file(`${name}.ext`),
      `extendedKeyUsage=${usage}\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n`,
    );
    openssl(
      'req',
      ...key,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.csr`),
      '-subj',
      `/CN=${name}`,
    );
    openssl(
      ...['x509', '-req', '-in', file(`${name}.csr`), '-out', file(`${name}.pem`), '-days', '2'],
      ...[
        '-CA',
        file('ca.pem'),
        '-CAkey',
        file('ca.key'),
        '-CAcreateserial',
        '-extfile',
        file(`${name}.ext`),
      ],
    );
  }
  return {
    caFile: file('ca.pem'),
    serverCertificateFile: file('server.pem'),
    serverKeyFile: file('server.key'),
    clientCertificateFile: file('client.pem'),
    clientKeyFile: file('client.key'),
  };
}

/** A TCP relay in front of a member; `cut` stops all bytes but breaks no connection, as a network does. */
class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async to(target: number): Promise<Relay> {
    const server = createServer({ pauseOnConnect: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const relay = new Relay(server, (server.address() as { port: number }).port);
    server.on('connection', (near) => relay.#join(near, target));
    return relay;
  }

  #join(near: Socket, target: number): void {
    const far = netConnect(target, '127.0.0.1');
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.on('data', (bytes) => other.write(bytes));
      one.on('end', () => other.end());
      one.on('error', () => other.destroy());
      one.on('close', () => {
        other.destroy();
        this.#sockets.delete(one);
      });
      if (this.#cut) one.pause();
      else one.resume();
    }
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.pause();
  }

  heal(): void {
    this.#cut = false;
    for (const socket of this.#sockets) socket.resume();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/**
 * Ports for programs that must be told theirs, and come back to them when they are restarted: below those that the kernel
 * gives to whoever asks for any, which a relay or an outgoing connection might get in between.
 */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = PORTS_FROM + randomInt(PORTS);
    if (!ports.has(port) && (await isFree(port))) ports.add(port);
  }
  return [...ports];
}

const PORTS_FROM = 15_000;
const PORTS = 15_000;

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

interface Member {
  readonly name: string;
  readonly clientPort: number;
  readonly peerPort: number;
  readonly relay: Relay;
  process: ChildProcess | undefined;
  log: string;
}

export class EtcdCluster {
  readonly certificates: Certificates | undefined;
  readonly #directory: string;
  readonly #members: readonly Member[];
  readonly #flags: readonly string[];

  private constructor(
    directory: string,
    members: readonly Member[],
    certificates: Certificates | undefined,
    flags: readonly string[],
  ) {
    this.#directory = directory;
    this.#members = members;
    this.certificates = certificates;
    this.#flags = flags;
  }

  static async start(options: EtcdClusterOptions = {}): Promise<EtcdCluster> {
    const directory = mkdtempSync(join(tmpdir(), 'tortie-etcd-'));
    const ports = await freePorts(2 * (options.members ?? 1));
    const members: Member[] = [];
    for (let i = 0; i < ports.length; i += 2) {
      const [clientPort, peerPort] = [ports[i]!, ports[i + 1]!];
      const relay = await Relay.to(clientPort);
      members.push({ name: `m${i / 2}`, clientPort, peerPort, relay, process: undefined, log: '' });
    }
    const certificates = options.tls ? makeCertificates(directory) : undefined;
    const cluster = new EtcdCluster(directory, members, certificates, options.flags ?? []);
    for (const index of members.keys()) cluster.startMember(index);
    await cluster.ready();
    return cluster;
  }

  /** `127.0.0.1:port` of each member's relay. */
  get endpoints(): string[] {
    return this.#members.map(({ relay }) => `127.0.0.1:${relay.port}`);
  }

  /** For `--datastore`; TLS files and credentials go beside it. */
  get url(): string {
    return `${this.certificates ? 'etcds' : 'etcd'}://${this.endpoints.join(',')}`;
  }

  startMember(index: number): void {
    const member = this.#members[index]!;
    const scheme = this.certificates ? 'https' : 'http';
    const client = `${scheme}://127.0.0.1:${member.clientPort}`;
    const peers = this.#members.map((m) => `${m.name}=http://127.0.0.1:${m.peerPort}`).join(',');
    const tls = this.certificates && [
      ...['--client-cert-auth', '--trusted-ca-file', this.certificates.caFile],
      ...['--cert-file', this.certificates.serverCertificateFile],
      ...['--key-file', this.certificates.serverKeyFile],
    ];
    const words = [
      ...['--name', member.name, '--data-dir', join(this.#directory, member.name)],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', `http://127.0.0.1:${member.peerPort}`],
      ...['--initial-advertise-peer-urls', `http://127.0.0.1:${member.peerPort}`],
      ...['--initial-cluster', peers, '--unsafe-no-fsync', '--log-level', 'error'],
      ...(tls ?? []),
      ...this.#flags,
    ];
    member.process = spawn('etcd', words, { stdio: ['ignore', 'ignore', 'pipe'] });
    member.process.on('error', (error) => {
      member.log += `etcd cannot be started (apt-get install etcd-server): ${error.message}`;
    });
    member.process.stderr?.on('data', (data) => {
      member.log = (member.log + data).slice(-4_000);
    });
  }

  async killMember(index: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#members[index]?.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  /** The process holds still: its connections stay open, as in a network partition of the member. */
  freezeMember(index: number): void {
    this.#members[index]?.process?.kill('SIGSTOP');
  }

  thawMember(index: number): void {
    this.#members[index]?.process?.kill('SIGCONT');
  }

  /** No byte passes between clients and a member; the members still hear each other. */
  cut(index: number): void {
    this.#members[index]?.relay.cut();
  }

  heal(index: number): void {
    this.#members[index]?.relay.heal();
  }

  get size(): number {
    return this.#members.length;
  }

  /** etcdctl against the members themselves, not the relays. */
  async etcdctl(...words: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    const scheme = this.certificates ? 'https' : 'http';
    const endpoints = this.#members.map((m) => `${scheme}://127.0.0.1:${m.clientPort}`).join(',');
    const tls = this.certificates && [
      ...['--cacert', this.certificates.caFile, '--cert', this.certificates.clientCertificateFile],
      ...['--key', this.certificates.clientKeyFile],
    ];
    return new Promise((resolve) => {
      const options = { env: { ...process.env, ETCDCTL_API: '3' }, timeout: 20_000 };
      execFile(
        'etcdctl',
        ['--endpoints', endpoints, ...(tls ?? []), ...words],
        options,
        (error, stdout, stderr) => {
          resolve({ status: error ? 1 : 0, stdout, stderr: stderr || (error?.message ?? '') });
        },
      );
    });
  }

  /** Fails where etcdctl does. */
  async run(...words: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.etcdctl(...words);
    if (status !== 0) throw new Error(`etcdctl ${words.join(' ')} failed: ${stderr}${stdout}`);
    return stdout;
  }

  /** Compacts everything up to now. */
  async compact(): Promise<void> {
    const status = JSON.parse(await this.run('get', '/', '-w', 'json'));
    await this.run('compaction', String(status.header.revision));
  }

  /** Index of the member that leads, once there is one. */
  async leader(): Promise<number> {
    const found = await poll(systemClock, START_DEADLINE_MS, 100, async () => {
      const rows: { Endpoint: string; Status: { leader: number; header: { member_id: number } } }[] =
        JSON.parse(await this.run('endpoint', 'status', '-w', 'json'));
      const leading = rows.find(({ Status }) => Status.leader === Status.header.member_id);
      return leading && this.#members.findIndex((m) => leading.Endpoint.endsWith(`:${m.clientPort}`));
    });
    if (found === undefined) throw new Error('no member of etcd leads');
    return found;
  }

  /** Resolves once a majority answers. */
  ready(): Promise<void> {
    return this.#until('get', '/ready', '--command-timeout=2s');
  }

  /** Resolves once every member does. */
  allReady(): Promise<void> {
    return this.#until('endpoint', 'health', '--command-timeout=2s');
  }

  async #until(...words: readonly string[]): Promise<void> {
    const answered = await poll(systemClock, START_DEADLINE_MS, 100, async () => {
      const { status } = await this.etcdctl(...words);
      return status === 0 || undefined;
    });
    if (!answered) throw new Error(`etcd did not come up: ${this.#members.map((m) => m.log).join('\n')}`);
  }

  async stop(): Promise<void> {
    for (const index of this.#members.keys()) {
      this.thawMember(index);
      await this.killMember(index);
    }
    await Promise.all(this.#members.map(({ relay }) => relay.close()));
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** A PEM file's text. */
  pem(file: keyof Certificates): string {
    return readFileSync(this.certificates![file], 'utf8');
  }
}
