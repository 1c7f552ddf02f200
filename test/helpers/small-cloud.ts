/**
 * Two zones behind a router, three nodes, a workload on each; real `tortie node run` processes from dist/:
 *
 *     node1 10.0.1.11/24 ─┐
 *                         ├─ bridge 10.0.1.1 router 10.0.2.1 ── node3 10.0.2.11/24
 *     node2 10.0.1.12/24 ─┘            198.51.100.1 ── internet 198.51.100.10
 *     w1 192.168.10.1   w2 192.168.20.1   w3 192.168.30.1
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askUnix } from '../../src/agent/http.ts';
import { socketPath } from '../../src/agent/options.ts';
import type { AgentStatus } from '../../src/agent/status.ts';
import { poll, systemClock } from '../../src/base/clock.ts';
import { resourceKey } from '../../src/model/keys.ts';
import { AlreadyExistsError, ConflictError, type Datastore } from '../../src/store/datastore.ts';
import { openFileStore } from '../../src/store/open.ts';
import { affinity, block, type KeyValue, node, pool, workload } from './cluster.ts';

export const MAIN = new URL('../../dist/cli/main.js', import.meta.url).pathname;
export const NODES = ['node1', 'node2', 'node3'] as const;
export type NodeName = (typeof NODES)[number];

const ADDRESS: Readonly<Record<NodeName, string>> = {
  node1: '10.0.1.11/24',
  node2: '10.0.1.12/24',
  node3: '10.0.2.11/24',
};
const THIRD: Readonly<Record<NodeName, number>> = { node1: 10, node2: 20, node3: 30 };

export const blockOf = (name: NodeName) => `192.168.${THIRD[name]}.0/26`;
export const workloadAddress = (name: NodeName) => `192.168.${THIRD[name]}.1`;

export interface Agent {
  readonly process: ChildProcess;
  /** What it wrote to stderr so far. */
  log(): string;
  /** Exit code, or the signal's name. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

export class SmallCloud {
  readonly directory = mkdtempSync(join(tmpdir(), 'tortie-small-cloud-'));
  readonly store: Datastore = openFileStore(join(this.directory, 'store'));
  readonly #tag = `tortie-t${process.pid}`;
  readonly #agents: Agent[] = [];

  namespace(name: string): string {
    return `${this.#tag}-${name}`;
  }

  runDirectory(name: string): string {
    return join(this.directory, `run-${name}`);
  }

  up(): void {
    const all = ['router', 'internet', ...NODES, 'w1', 'w2', 'w3'];
    for (const name of all) {
      ip('netns', 'add', this.namespace(name));
      ip('-n', this.namespace(name), 'link', 'set', 'lo', 'up');
      this.run(
        name,
        'sysctl',
        '-qw',
        'net.ipv6.conf.all.disable_ipv6=1',
        'net.ipv6.conf.default.disable_ipv6=1',
      );
    }
    this.run('router', 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
    this.#batch('router', [
      'link add zone-a type bridge',
      'link set zone-a up',
      'address add 10.0.1.1/24 dev zone-a',
    ]);
    this.#cable('node1', 'router', 'eth0', 'to-node1', ['link set to-node1 master zone-a']);
    this.#cable('node2', 'router', 'eth0', 'to-node2', ['link set to-node2 master zone-a']);
    this.#cable('node3', 'router', 'eth0', 'to-node3', ['address add 10.0.2.1/24 dev to-node3']);
    this.#cable('internet', 'router', 'eth0', 'to-inet', ['address add 198.51.100.1/24 dev to-inet']);
    this.#batch('internet', [
      'address add 198.51.100.10/24 dev eth0',
      'route add 10.0.0.0/16 via 198.51.100.1',
    ]);
    for (const name of NODES) {
      const router = ADDRESS[name].replace(/\.\d+\/24$/, '.1');
      this.#batch(name, [`address add ${ADDRESS[name]} dev eth0`, `route add default via ${router}`]);
      this.#attach(name);
    }
  }

  /** The cluster's objects but for the pool, which the test chooses. */
  async seed(mode: string): Promise<void> {
    await this.put(pool('pool', '192.168.0.0/16', mode));
    for (const name of NODES) {
      const third = THIRD[name];
      await this.put(node(name, ADDRESS[name], `192.168.${third}.0`));
      await this.put(block(blockOf(name), name, { 0: name, 1: name }));
      await this.put(affinity(name, blockOf(name)));
      await this.put(workload(`w${third / 10}`, name, `cali${third}`, workloadAddress(name)));
    }
  }

  /** Creates or replaces one value, whoever else writes it (an agent its Node); gives the store's revision of it. */
  async put([key, value]: KeyValue): Promise<string> {
    for (;;) {
      const known = await this.store.get(key);
      try {
        const entry = known
          ? await this.store.update(key, value, known.revision)
          : await this.store.create(key, value);
        return entry.revision;
      } catch (error) {
        if (!(error instanceof ConflictError || error instanceof AlreadyExistsError)) throw error;
      }
    }
  }

  setMode(mode: string): Promise<string> {
    return this.put(pool('pool', '192.168.0.0/16', mode));
  }

  deleteNode(name: string): Promise<unknown> {
    return this.store.delete(resourceKey('Node', name));
  }

  startAgent(name: NodeName, ...words: string[]): Agent {
    const command = ['netns', 'exec', this.namespace(name), process.execPath, MAIN, 'node', 'run'];
    const store = `file://${join(this.directory, 'store')}`;
    const child = spawn('ip', [...command, '--name', name, '--datastore', store, ...words], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TORTIE_RUN_DIR: this.runDirectory(name), NO_DEFAULT_POOLS: 'true' },
    });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log += text;
    });
    const agent: Agent = {
      process: child,
      log: () => log,
      ended: new Promise((resolve) => child.once('close', (code, signal) => resolve(signal ?? code))),
    };
    mkdirSync(this.runDirectory(name), { recursive: true });
    this.#agents.push(agent);
    return agent;
  }

  async status(name: NodeName): Promise<AgentStatus | undefined> {
    const body = await askUnix(socketPath(this.runDirectory(name), name), '/v1/status').catch(
      () => undefined,
    );
    return body === undefined ? undefined : (JSON.parse(body) as AgentStatus);
  }

  /** Waits until each of the nodes has this revision in force. */
  async inForce(revision: string, names: readonly NodeName[] = NODES): Promise<void> {
    for (const name of names)
      await eventually(`${name} at revision ${revision}`, async () => {
        const status = await this.status(name);
        return status && status.revision !== '' && BigInt(status.revision) >= BigInt(revision)
          ? status
          : undefined;
      });
  }

  routes(name: string): string[] {
    return this.run(name, 'ip', '-4', 'route', 'show', 'proto', '84')
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean);
  }

  run(name: string, command: string, ...words: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.namespace(name), command, ...words], {
      timeout: 30_000,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  async down(): Promise<void> {
    for (const agent of this.#agents) agent.process.kill('SIGKILL');
    await Promise.all(this.#agents.map((agent) => agent.ended));
    await this.store.close();
    for (const name of ['w1', 'w2', 'w3', ...NODES, 'internet', 'router'])
      ip('netns', 'del', this.namespace(name));
    rmSync(this.directory, { recursive: true, force: true });
  }

  #batch(name: string, lines: readonly string[]): void {
    execFileSync('ip', ['-n', this.namespace(name), '-batch', '-'], {
      input: `${lines.join('\n')}\n`,
      timeout: 10_000,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  }

  #cable(
    left: string,
    right: string,
    leftDevice: string,
    rightDevice: string,
    then: readonly string[],
  ): void {
    ip(
      ...['link', 'add', leftDevice, 'netns', this.namespace(left), 'type', 'veth'],
      ...['peer', 'name', rightDevice, 'netns', this.namespace(right)],
    );
    this.#batch(left, [`link set ${leftDevice} up`]);
    this.#batch(right, [`link set ${rightDevice} up`, ...then]);
  }

  /** As `workload attach` leaves it: a /32 inside, a default route by an address that proxy ARP answers for. */
  #attach(name: NodeName): void {
    const inside = `w${THIRD[name] / 10}`;
    this.#cable(inside, name, 'eth0', `cali${THIRD[name]}`, []);
    this.#batch(inside, [
      `address add ${workloadAddress(name)}/32 dev eth0`,
      'route add 169.254.1.1 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
    ]);
  }
}

function ip(...words: string[]): void {
  execFileSync('ip', words, { timeout: 10_000, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Polls until the probe gives something; fails naming what was awaited. */
export async function eventually<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
  const value = await poll(systemClock, 20_000, 50, probe);
  if (value === undefined) throw new Error(`did not come about: ${what}`);
  return value;
}
