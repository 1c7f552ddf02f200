/**
 * `scripts/bench scale`: one real agent before clusters of growing size in a real etcd, all in one network
 * namespace that the script made: eth0 is the underlay, eth1 its other end, where packets are looked at.
 *
 * Forwarding is what the fabric sees, not what the agent believes: a datagram is sent every millisecond to an
 * address of the last block, and the clock stops when the first of them leaves encapsulated to the right node.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askUnix } from '../agent/http.ts';
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { ipv4FromNumber } from '../ip/ipv4.ts';
import { blockKey } from '../model/keys.ts';
import type { Datastore } from '../store/datastore.ts';
import { openDatastore } from '../store/open.ts';
import { Prober, residentBytes } from './prober.ts';
import { runBench, sizesAsked } from './run-bench.ts';
import {
  blockOf,
  blockValue,
  clusterEntries,
  nodeAddress,
  nodeName,
  type ScaleCluster,
} from './scale-cluster.ts';
import { end } from './two-hosts.ts';

const MAIN = installedFile('dist/cli/main.js').pathname;
/** 100, 2,000 and 20,000 blocks. */
const SIZES: readonly ScaleCluster[] = [
  { nodes: 25, blocksPerNode: 4 },
  { nodes: 500, blocksPerNode: 4 },
  { nodes: 5_000, blocksPerNode: 4 },
];
const CHANGES = 40;
const DEADLINE_MS = 60_000;
const SETTLE_MS = 5_000;
const WRITERS = 200;

interface Figures {
  readonly nodes: number;
  readonly blocks: number;
  readonly startMs: number;
  readonly restartMs: number;
  readonly changeMedianMs: number;
  readonly changeWorstMs: number;
  readonly residentMb: number;
}

class Bench {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tortie-scale-'));
  readonly #clock = systemClock;
  readonly #children: ChildProcess[] = [];
  #port = 12_379;

  async run(cluster: ScaleCluster): Promise<Figures> {
    const url = await this.#startEtcd();
    const store = await openDatastore({ datastore: url, env: {} });
    const prober = new Prober();
    try {
      await fill(store, cluster);
      return await this.#measure(cluster, url, store, prober);
    } finally {
      prober.close();
      await store.close();
      await this.#endAll();
    }
  }

  async #measure(cluster: ScaleCluster, url: string, store: Datastore, prober: Prober): Promise<Figures> {
    const { nodes, blocksPerNode } = cluster;
    const last = ipv4FromNumber(blockOf(cluster, nodes - 1, blocksPerNode - 1).address + 1);
    const start = async () => {
      const began = this.#clock.monotonicMs();
      const agent = this.#spawn(
        process.execPath,
        [MAIN, 'node', 'run', '--name', nodeName(0), '--datastore', url],
        {
          TORTIE_RUN_DIR: this.#directory,
          NO_DEFAULT_POOLS: 'true',
        },
      );
      return {
        agent,
        tookMs: (await prober.untilEncapsulated(last, nodeAddress(nodes - 1), this.#clock)) - began,
      };
    };
    const first = await start();
    await end(first.agent);
    // The next agent finds the device and the routes of the first: forwarding begins when its table is there.
    const second = await start();
    await this.#clock.sleep(SETTLE_MS);
    const changes = await this.#changes(cluster, store, prober);
    await this.#clock.sleep(SETTLE_MS);
    await this.#untilRunning();
    return {
      nodes,
      blocks: nodes * blocksPerNode,
      startMs: first.tookMs,
      restartMs: second.tookMs,
      changeMedianMs: changes[CHANGES / 2]!,
      changeWorstMs: changes.at(-1)!,
      residentMb: residentBytes(second.agent.pid!) / 1e6,
    };
  }

  /** Another node borrows an address of the last block, again and again; sorted milliseconds from write to wire. */
  async #changes(cluster: ScaleCluster, store: Datastore, prober: Prober): Promise<number[]> {
    const { nodes, blocksPerNode } = cluster;
    const prefix = blockOf(cluster, nodes - 1, blocksPerNode - 1);
    const address = ipv4FromNumber(prefix.address + 63);
    const took: number[] = [];
    for (let i = 0; i < CHANGES; i++) {
      const borrower = nodes - 2 - (i % 2);
      const entry = (await store.get(blockKey(prefix)))!;
      const value = blockValue(cluster, nodes - 1, blocksPerNode - 1, nodeName(borrower));
      const began = this.#clock.monotonicMs();
      await store.update(entry.key, value, entry.revision);
      took.push((await prober.untilEncapsulated(address, nodeAddress(borrower), this.#clock)) - began);
    }
    return took.sort((a, b) => a - b);
  }

  async #untilRunning(): Promise<void> {
    const path = join(this.#directory, `node-${nodeName(0)}.sock`);
    const state = await poll(this.#clock, DEADLINE_MS, 500, async () => {
      const status = JSON.parse((await askUnix(path, '/v1/status')) ?? '{}') as {
        state: string;
        warnings: string[];
      };
      if (status.warnings.length) process.stderr.write(`${status.warnings.slice(0, 3).join('\n')}\n`);
      return status.state === 'running' ? status.state : undefined;
    });
    if (!state) throw new FailedError('ERR_BENCH', 'the agent does not say that it is running');
  }

  async #startEtcd(): Promise<string> {
    const client = `http://127.0.0.1:${this.#port++}`;
    const peer = `http://127.0.0.1:${this.#port++}`;
    this.#spawn('etcd', [
      ...['--data-dir', mkdtempSync(join(this.#directory, 'etcd-'))],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...[
        '--initial-cluster',
        `default=${peer}`,
        '--log-level',
        'fatal',
        '--logger',
        'zap',
        '--unsafe-no-fsync',
      ],
    ]);
    const url = client.replace('http', 'etcd');
    const store = await openDatastore({ datastore: url, env: {} });
    const up = await poll(this.#clock, DEADLINE_MS, 100, () =>
      store.list('/nothing/').catch(() => undefined),
    );
    await store.close();
    if (!up) throw new FailedError('ERR_BENCH', 'etcd does not answer');
    return url;
  }

  #spawn(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', process.env.TORTIE_BENCH_VERBOSE ? 'inherit' : 'ignore'],
      env: { ...process.env, ...env },
    });
    this.#children.push(child);
    return child;
  }

  async #endAll(): Promise<void> {
    for (const child of this.#children.splice(0)) await end(child);
    execFileSync(process.execPath, [MAIN, 'node', 'run', '--name', nodeName(0), '--cleanup'], {
      env: { ...process.env, TORTIE_RUN_DIR: this.#directory },
      stdio: 'ignore',
      timeout: DEADLINE_MS,
    });
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

async function fill(store: Datastore, cluster: ScaleCluster): Promise<void> {
  const entries = clusterEntries(cluster);
  const write = async () => {
    for (const [key, value] of entries) await store.create(key, value);
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
}

const ROW = (cells: readonly (string | number)[]) => cells.map((cell) => String(cell).padStart(12)).join('');

async function main(sizes: readonly ScaleCluster[]): Promise<void> {
  const bench = new Bench();
  try {
    process.stdout.write(
      `${ROW(['nodes', 'blocks', 'start ms', 'restart ms', 'change ms', 'worst ms', 'resident MB'])}\n`,
    );
    for (const size of sizes) {
      const figures = await bench.run(size);
      process.stdout.write(`${ROW(Object.values(figures).map((value) => Math.round(value * 10) / 10))}\n`);
    }
  } finally {
    bench.remove();
  }
}

await runBench(() => main(sizesAsked(process.argv[2], SIZES, 'nodes', ({ nodes }) => nodes)));
