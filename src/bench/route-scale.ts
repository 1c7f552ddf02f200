/**
 * `scripts/bench scale routes`: one real `tortie tunnel run` before the routes of others, in the network namespace of
 * `scripts/bench scale`. As there, the clock stops when the fabric sees a packet leave encapsulated by the new way.
 *
 * A change is a longer prefix inside one that is there, by another next hop: until its message has been read, packets
 * for it take the way that they took before, so the same figure bounds that.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TunnelStatus } from '../agent/status.ts';
import { askStatus } from '../agent/status-socket.ts';
import { tunnelSocketPath } from '../agent/tunnel-options.ts';
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { interfaceIndex } from '../io/netns.ts';
import { sendRouteRequests } from '../io/route-requests.ts';
import { formatIpv4, type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { encodeRoute, mainRoute, ROUTE_UNICAST } from '../wire/rtnetlink.ts';
import { Prober, residentBytes } from './prober.ts';
import { runBench, sizesAsked } from './run-bench.ts';
import { end } from './two-hosts.ts';

const MAIN = installedFile('dist/cli/main.js').pathname;
const DEVICE = 'tunl0';
const SIZES = [100, 2_000, 20_000];
const NEXT_HOPS = 5_000;
const CHANGES = 40;
const RESTARTS = 5;
const DEADLINE_MS = 60_000;
const SETTLE_MS = 5_000;
/** Datagrams as fast as a process of its own can: it keeps one core, and the agent's packet thread the other. */
const FLOOD = `
  const socket = require('node:dgram').createSocket('udp4');
  const payload = Buffer.alloc(1400);
  const next = () => socket.send(payload, next);
  socket.connect(9, process.argv[1], () => { for (let i = 0; i < 32; i++) next(); });
`;
/** Every answer costs the agent a millisecond or more of what is measured. */
const ASK_MS = 20;

const prefixOfBlock = (i: number): Ipv4 => ipv4FromNumber(0x0b00_0000 + i * 64);
const nextHop = (i: number): Ipv4 => ipv4FromNumber(0x0a07_0000 + (i % NEXT_HOPS));

function setRoutes(
  routes: readonly { readonly destination: Ipv4; readonly length: number; readonly via: Ipv4 }[],
): void {
  const index = interfaceIndex(DEVICE);
  const requests = routes.map(({ destination, length, via }, sequence) =>
    encodeRoute(
      mainRoute({
        ...{ change: 'set', destination, prefixLength: length, protocol: 80, type: ROUTE_UNICAST },
        nextHops: [{ gateway: via, interfaceIndex: index, onlink: true, dead: false, weight: 1 }],
      }),
      sequence,
      'errors only',
    ),
  );
  const refused = sendRouteRequests(requests);
  if (refused.size > 0) throw new FailedError('ERR_BENCH', `the kernel refused ${refused.size} routes`);
}

class RouteBench {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tortie-scale-'));
  #process: ChildProcess | undefined;

  async run(routes: number): Promise<number[]> {
    for (const line of [
      `tuntap add dev ${DEVICE} mode tun`,
      `address add 192.168.0.1/32 dev ${DEVICE}`,
      `link set ${DEVICE} mtu 1480 up`,
    ])
      execFileSync('ip', line.split(' '), { timeout: DEADLINE_MS });
    setRoutes(
      Array.from({ length: routes }, (_, i) => ({
        destination: prefixOfBlock(i),
        length: 26,
        via: nextHop(i),
      })),
    );
    const prober = new Prober();
    try {
      return await this.#measure(routes, prober);
    } finally {
      prober.close();
      await this.#kill();
      execFileSync('ip', ['link', 'delete', DEVICE], { timeout: DEADLINE_MS });
    }
  }

  async #measure(routes: number, prober: Prober): Promise<number[]> {
    const last = ipv4FromNumber(prefixOfBlock(routes - 1) + 1);
    const starts: { followedMs: number; forwardingMs: number }[] = [];
    for (let i = 0; i < RESTARTS; i++) {
      await this.#kill();
      const began = systemClock.monotonicMs();
      this.#start();
      // The kernel gives a device that has just got its carrier its queue up to a second later; hence both.
      const [forwarding, followed] = await Promise.all([
        prober.untilEncapsulated(last, nextHop(routes - 1), systemClock),
        this.#untilFollowed(routes),
      ]);
      starts.push({ followedMs: followed - began, forwardingMs: forwarding - began });
    }
    const changes = await this.#changes(routes, prober);
    const loaded = await this.#underLoad(() => this.#changes(routes, prober));
    await systemClock.sleep(SETTLE_MS);
    const middle = (values: readonly number[]) =>
      values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
    return [
      ...[middle(starts.map((s) => s.followedMs)), middle(starts.map((s) => s.forwardingMs))],
      ...[middle(changes), Math.max(...changes), middle(loaded), Math.max(...loaded)],
      ...[residentBytes(this.#process!.pid!) / 1e6],
    ];
  }

  async #changes(routes: number, prober: Prober): Promise<number[]> {
    const address = ipv4FromNumber(prefixOfBlock(routes - 1) + 33);
    const took: number[] = [];
    for (let i = 0; i < CHANGES; i++) {
      const via = nextHop(routes + 1 + (i % 2));
      const began = systemClock.monotonicMs();
      setRoutes([{ destination: address, length: 32, via }]);
      took.push((await prober.untilEncapsulated(address, via, systemClock)) - began);
    }
    return took;
  }

  async #underLoad<T>(measure: () => Promise<T>): Promise<T> {
    const flood = spawn(process.execPath, ['-e', FLOOD, formatIpv4(ipv4FromNumber(prefixOfBlock(0) + 1))], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    try {
      return await measure();
    } finally {
      await end(flood);
    }
  }

  async #untilFollowed(routes: number): Promise<number> {
    const question = {
      socket: tunnelSocketPath(this.#directory, DEVICE),
      version: 1,
      silence: { code: 'ERR_BENCH', text: 'it does not run', hint: '' },
    };
    const followed = await poll(systemClock, DEADLINE_MS, ASK_MS, async () => {
      const status = await askStatus<TunnelStatus>(question).catch(() => undefined);
      return status?.state === 'running' && status.entries >= routes ? systemClock.monotonicMs() : undefined;
    });
    if (followed === undefined) throw new FailedError('ERR_BENCH', 'the routes are not followed');
    return followed;
  }

  #start(): void {
    this.#process = spawn(process.execPath, [MAIN, 'tunnel', 'run', '--log-level', 'warn'], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, TORTIE_RUN_DIR: this.#directory },
    });
  }

  async #kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child) await end(child);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const ROW = (cells: readonly (string | number)[]) => cells.map((cell) => String(cell).padStart(14)).join('');

async function main(sizes: readonly number[]): Promise<void> {
  const bench = new RouteBench();
  try {
    const head = [
      'routes',
      'followed ms',
      'forwarding ms',
      'change ms',
      'worst ms',
      'loaded ms',
      'worst ms',
      'resident MB',
    ];
    process.stdout.write(`${ROW(head)}\n`);
    for (const routes of sizes) {
      const figures = await bench.run(routes);
      process.stdout.write(`${ROW([routes, ...figures.map((value) => Math.round(value * 10) / 10)])}\n`);
    }
  } finally {
    bench.remove();
  }
}

await runBench(() => main(sizesAsked(process.argv[2], SIZES, 'routes', (routes) => routes)));
