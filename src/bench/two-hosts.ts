/**
 * Where everything is measured: two hosts in two zones, the router between them, each a network namespace:
 *
 *     a 10.0.1.11/24 ─ 10.0.1.1 router 10.0.2.1 ─ b 10.0.2.11/24        tunnel: 10.99.0.1 ─ 10.99.0.2
 *
 * Each contender has such a cloud of its own, so that all are started once and measured in turn.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { FailedError } from '../base/errors.ts';

export type Host = 'a' | 'b';
export const HOSTS: readonly Host[] = ['a', 'b'];

const SET_UP_MS = 10_000;
/** perf's samples as text. */
const OUTPUT_BYTES_MAX = 256 << 20;

/** Underlay address, and the address in the tunnel of the contenders that have a device of their own. */
export const UNDERLAY: Readonly<Record<Host, string>> = { a: '10.0.1.11', b: '10.0.2.11' };
export const OVERLAY: Readonly<Record<Host, string>> = { a: '10.99.0.1', b: '10.99.0.2' };

export const other = (host: Host): Host => (host === 'a' ? 'b' : 'a');

export interface Background {
  readonly process: ChildProcess;
  /** What it has written to both its streams. */
  log(): string;
}

export class TwoHosts {
  readonly mtu: number;
  readonly #tag: string;
  readonly #started: Background[] = [];

  constructor(tag: string, mtu: number) {
    this.#tag = `tortie-b${process.pid}-${tag}`;
    this.mtu = mtu;
  }

  namespace(part: Host | 'r'): string {
    return `${this.#tag}${part}`;
  }

  async up(): Promise<void> {
    const ipv6Off = ['all', 'default'].map((scope) => `net.ipv6.conf.${scope}.disable_ipv6=1`);
    const lenient = ['all', 'default'].map((scope) => `net.ipv4.conf.${scope}.rp_filter=0`);
    for (const part of ['r', 'a', 'b'] as const) {
      await command(['ip', 'netns', 'add', this.namespace(part)], SET_UP_MS);
      await this.run(part, ['sysctl', '-qw', 'net.ipv4.ip_forward=1', ...ipv6Off, ...lenient]);
      await this.ip(part, 'link set lo up');
    }
    for (const host of HOSTS) {
      const router = UNDERLAY[host].replace(/\.11$/, '.1');
      const peer = `peer name to-${host} mtu ${this.mtu} netns ${this.namespace('r')}`;
      await this.ip(host, `link add eth0 mtu ${this.mtu} type veth ${peer}`);
      await this.ip('r', `addr add ${router}/24 dev to-${host}`, `link set to-${host} up`);
      const lines = [`addr add ${UNDERLAY[host]}/24 dev eth0`, 'link set eth0 up'];
      await this.ip(host, ...lines, `route add default via ${router}`);
    }
  }

  /** Segmentation and receive offloads of every end of the underlay; checksums stay offloaded. */
  async withoutOffloads(): Promise<void> {
    const off = ['tso', 'off', 'gso', 'off', 'gro', 'off'];
    for (const host of HOSTS) {
      await this.run(host, ['ethtool', '-K', 'eth0', ...off]);
      await this.run('r', ['ethtool', '-K', `to-${host}`, ...off]);
    }
  }

  /** Runs `ip -batch` in a namespace. */
  async ip(part: Host | 'r', ...lines: readonly string[]): Promise<void> {
    for (const line of lines)
      await command(['ip', '-n', this.namespace(part), ...line.split(' ')], SET_UP_MS);
  }

  /** Runs a program in a namespace to its end; what it said. */
  run(part: Host | 'r', words: readonly string[], deadlineMs = SET_UP_MS): Promise<string> {
    return command(['ip', 'netns', 'exec', this.namespace(part), ...words], deadlineMs);
  }

  /** Starts a program that runs until `close`. */
  start(host: Host, words: readonly string[], env: NodeJS.ProcessEnv = {}): Background {
    const child = spawn('ip', ['netns', 'exec', this.namespace(host), ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    let log = '';
    const keep = (text: string) => {
      log += text;
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => keep(String(error)));
    const started = { process: child, log: () => log };
    this.#started.push(started);
    return started;
  }

  async close(): Promise<void> {
    await Promise.all(this.#started.splice(0).map(({ process: child }) => end(child)));
    for (const part of ['a', 'b', 'r'] as const) {
      if (!existsSync(`/run/netns/${this.namespace(part)}`)) continue;
      await this.#endOrphans(part);
      await command(['ip', 'netns', 'del', this.namespace(part)], SET_UP_MS);
    }
  }

  /** What our children left running in a namespace that is only ours: vtund has a process of its own per session. */
  async #endOrphans(part: Host | 'r'): Promise<void> {
    const pids = await command(['ip', 'netns', 'pids', this.namespace(part)], SET_UP_MS);
    for (const pid of pids.split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch (error) {
        // It has ended by itself meanwhile.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }
}

/** Ends a child of ours, and waits until it is gone. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await ended;
}

/** Runs a command to its end, or for `deadlineMs`; fails with what it said. */
export function command(words: readonly string[], deadlineMs: number): Promise<string> {
  const [program = '', ...rest] = words;
  const options = {
    timeout: deadlineMs,
    killSignal: 'SIGKILL',
    maxBuffer: OUTPUT_BYTES_MAX,
    encoding: 'utf8',
  } as const;
  return new Promise((resolve, reject) => {
    execFile(program, rest, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const why = error.killed ? `no end within ${deadlineMs} ms` : `exit ${error.code}`;
      reject(
        new FailedError(
          'ERR_BENCH',
          `${words.join(' ')}: ${why}: ${stderr.trim() || stdout.trim().slice(-400)}`,
        ),
      );
    });
  });
}
