/**
 * Hosts whose kernel has no ipip module, each in a namespace, behind one router; `tortie tunnel run` from dist/ on
 * those that a test starts, and routes put there by `ip` as somebody else's software would:
 *
 *     a 10.0.1.11/24 ─ to-a 10.0.1.1 ┐
 *     b 10.0.2.11/24 ─ to-b 10.0.2.1 ┼ router
 *     c 10.0.3.11/24 ─ to-c 10.0.3.1 ┘
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askUnix } from '../../src/agent/http.ts';
import type { TunnelStatus } from '../../src/agent/status.ts';
import { tunnelSocketPath } from '../../src/agent/tunnel-options.ts';
import { poll, systemClock } from '../../src/base/clock.ts';
import { conservationGap } from '../../src/dataplane/counters.ts';
import { untilQueued } from './links.ts';
import { pingAtOnce } from './ping.ts';
import { eventually, MAIN } from './small-cloud.ts';

export type Host = 'a' | 'b' | 'c';
const HOSTS: readonly Host[] = ['a', 'b', 'c'];
const THIRD: Readonly<Record<Host, number>> = { a: 1, b: 2, c: 3 };

/** Underlay address, block, and the first address of the block, which is the host's tunnel address. */
export const address = (host: Host) => `10.0.${THIRD[host]}.11`;
export const block = (host: Host) => `192.168.${THIRD[host]}.0/26`;
export const inner = (host: Host) => `192.168.${THIRD[host]}.0`;

export interface TunnelProcess {
  readonly process: ChildProcess;
  log(): string;
  /** Exit code, or the signal's name. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

export class TunnelHosts {
  readonly directory = mkdtempSync(join(tmpdir(), 'tortie-tunnel-'));
  readonly #tag: string;
  readonly #started: TunnelProcess[] = [];

  constructor(tag: string) {
    this.#tag = `tortie-t${process.pid}-${tag}`;
  }

  namespace(name: string): string {
    return `${this.#tag}${name}`;
  }

  up(): void {
    for (const name of ['r', ...HOSTS]) {
      execFileSync('ip', ['netns', 'add', this.namespace(name)], { timeout: 10_000 });
      this.ip(name, 'link set lo up');
      const ipv6Off = ['all', 'default'].map((scope) => `net.ipv6.conf.${scope}.disable_ipv6=1`);
      this.run(name, 'sysctl', '-qw', 'net.ipv4.ip_forward=1', ...ipv6Off);
    }
    for (const host of HOSTS) {
      const [node, router] = [this.namespace(host), this.namespace('r')];
      const veth = `link add eth0 netns ${node} type veth peer name to-${host} netns ${router}`;
      execFileSync('ip', veth.split(' '), { timeout: 10_000 });
      this.ip('r', `addr add 10.0.${THIRD[host]}.1/24 dev to-${host}`, `link set to-${host} up`);
      const gateway = `route add default via 10.0.${THIRD[host]}.1`;
      this.ip(host, `addr add ${address(host)}/24 dev eth0`, 'link set eth0 up', gateway);
    }
  }

  /** Runs `ip -batch` in a namespace. */
  ip(name: string, ...lines: readonly string[]): void {
    const options = {
      input: `${lines.join('\n')}\n`,
      timeout: 30_000,
      encoding: 'utf8',
      stdio: 'pipe',
    } as const;
    execFileSync('ip', ['-n', this.namespace(name), '-batch', '-'], options);
  }

  run(name: string, command: string, ...words: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.namespace(name), command, ...words], {
      timeout: 60_000,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** What ping said, also where answers are missing. */
  ping(from: Host, to: string, ...words: string[]): string {
    try {
      return this.run(from, ...pingAtOnce(...words, to));
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      return `${stdout}${stderr}`;
    }
  }

  runDirectory(host: Host): string {
    return join(this.directory, `run-${host}`);
  }

  start(host: Host, ...words: string[]): TunnelProcess {
    return this.#start(host, [process.execPath, MAIN, 'tunnel', 'run', ...words]);
  }

  #start(host: Host, words: readonly string[]): TunnelProcess {
    const command = ['netns', 'exec', this.namespace(host)];
    mkdirSync(this.runDirectory(host), { recursive: true });
    const child = spawn('ip', [...command, ...words], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TORTIE_RUN_DIR: this.runDirectory(host) },
    });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log += text;
    });
    const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
      child.once('close', (code, signal) => resolve(signal ?? code));
    });
    const started = { process: child, log: () => log, ended };
    this.#started.push(started);
    return started;
  }

  async status(host: Host): Promise<TunnelStatus | undefined> {
    const socket = tunnelSocketPath(this.runDirectory(host), 'tunl0');
    const body = await askUnix(socket, '/v1/status').catch(() => undefined);
    return body === undefined ? undefined : (JSON.parse(body) as TunnelStatus);
  }

  /** Waits for a status that is as wanted, and gives it. */
  until(host: Host, what: string, wanted: (status: TunnelStatus) => boolean): Promise<TunnelStatus> {
    return eventually(`${host}: ${what}`, async () => {
      const status = await this.status(host);
      return status && wanted(status) ? status : undefined;
    });
  }

  /** A running tunnel. */
  async serve(host: Host, ...words: string[]): Promise<TunnelProcess> {
    return this.#running(host, this.start(host, ...words));
  }

  /** A running tunnel, started by another program such as setpriv. */
  async serveBy(host: Host, prefix: readonly string[], ...words: string[]): Promise<TunnelProcess> {
    return this.#running(
      host,
      this.#start(host, [...prefix, process.execPath, MAIN, 'tunnel', 'run', ...words]),
    );
  }

  async #running(host: Host, started: TunnelProcess): Promise<TunnelProcess> {
    await this.until(host, 'runs', (status) => status.state === 'running').catch((error: Error) => {
      throw new Error(`${error.message}; it said: ${started.log()}`);
    });
    await untilQueued(this.namespace(host), 'tunl0');
    return started;
  }

  /** As somebody's script would: address, up, and routes to the others' blocks. */
  configure(host: Host, ...others: readonly Host[]): void {
    const routes = others.map(
      (other) => `route replace ${block(other)} via ${address(other)} dev tunl0 onlink`,
    );
    this.ip(host, `addr replace ${inner(host)}/32 dev tunl0`, 'link set tunl0 up', ...routes);
  }

  /** Packets in = packets out + drops, on those that run, once the last batch is through: counters settle then. */
  async gaps(): Promise<Record<string, number>> {
    let gaps = await this.#gapsNow();
    await poll(systemClock, 10_000, 10, async () => {
      gaps = await this.#gapsNow();
      return Object.keys(gaps).length === 0 || undefined;
    });
    return gaps;
  }

  async #gapsNow(): Promise<Record<string, number>> {
    const gaps: Record<string, number> = {};
    for (const host of HOSTS) {
      const status = await this.status(host);
      if (!status || Object.keys(status.counters).length === 0) continue;
      for (const direction of ['outbound', 'inbound'] as const) {
        const gap = conservationGap(status.counters, direction);
        if (gap !== 0) gaps[`${host} ${direction}`] = gap;
      }
    }
    return gaps;
  }

  async down(): Promise<void> {
    for (const started of this.#started) started.process.kill('SIGKILL');
    await Promise.all(this.#started.map((started) => started.ended));
    for (const name of [...HOSTS, 'r'])
      execFileSync('ip', ['netns', 'del', this.namespace(name)], { timeout: 10_000 });
    rmSync(this.directory, { recursive: true, force: true });
  }
}
