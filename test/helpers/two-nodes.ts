/**
 * Two nodes in different subnets behind a router, each a namespace with a TUN and a data plane of its own, and
 * a workload address on its loopback interface:
 *
 *     node A 10.0.1.11/24 ── 10.0.1.1 router 10.0.2.1 ── node B 10.0.2.11/24
 *     lo 192.168.1.1/32                                  lo 192.168.2.1/32
 *
 * Built with real kernel parts only. The data planes come from dist/, since Node runs no TypeScript in a worker.
 */
import { execFileSync } from 'node:child_process';
import type { DataPlane } from '../../src/agent/data-plane.ts';
import { poll, systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { conservationGap } from '../../src/dataplane/counters.ts';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { OVERHEAD_BYTES, type UnderlayMtu } from '../../src/ip/mtu.ts';
import { prefix } from '../../src/ip/prefix.ts';
import { untilQueued } from './links.ts';

export const NODE_A = '10.0.1.11';
export const NODE_B = '10.0.2.11';
export const WORKLOAD_A = '192.168.1.1';
export const WORKLOAD_B = '192.168.2.1';

export interface TwoNodes {
  readonly a: string;
  readonly b: string;
  readonly router: string;
  planes: { a: DataPlane; b: DataPlane };
  /** Runs a command in a namespace, with a deadline. */
  run(namespace: string, command: string, ...words: string[]): string;
  /** Starts a new data plane on a node whose own was stopped. */
  restart(node: 'a' | 'b'): Promise<void>;
  close(): Promise<void>;
}

export function ip(...words: string[]): string {
  return execFileSync('ip', words, { timeout: 10_000, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** How the nodes speak to each other. */
export interface Speech {
  readonly transport: 'ipip' | 'udp';
  readonly udpPort: number;
}

const IPIP: Speech = { transport: 'ipip', udpPort: 0 };

/** The table of node `own` with the other node as its only peer. */
export function configOf(
  own: 'a' | 'b',
  changes: Partial<ForwardingConfig> = {},
  speech: Speech = IPIP,
): ForwardingConfig {
  const [self, other] = own === 'a' ? [NODE_A, NODE_B] : [NODE_B, NODE_A];
  const [ownBlock, otherBlock] =
    own === 'a' ? ['192.168.1.0/26', '192.168.2.0/26'] : ['192.168.2.0/26', '192.168.1.0/26'];
  return {
    revision: 1,
    outerSource: ipv4(self),
    localAddresses: [ipv4(self)],
    entries: [{ prefix: prefix(otherBlock), nextHops: [ipv4(other)] }],
    peers: [{ address: ipv4(other), ...speech, mtu: 1500 as UnderlayMtu }],
    sources: [
      { prefix: prefix('192.168.0.0/16'), owners: 'any-peer' },
      { prefix: prefix(otherBlock), owners: [ipv4(other)] },
      { prefix: prefix(ownBlock), owners: 'local' },
      { prefix: prefix(`${self}/32`), owners: 'local' },
    ],
    externalSources: [],
    ...changes,
  };
}

export interface TwoNodesOptions {
  readonly speech?: Speech;
  readonly mtu?: number;
  /** Whether protocol 4 may leave as frames: by those ways that the test sets. */
  readonly frames?: boolean;
  /** What a direction that ends by itself calls; else that fails the test. */
  readonly onExit?: (error: Error) => void;
}

export async function makeTwoNodes(tag: string, options: TwoNodesOptions = {}): Promise<TwoNodes> {
  const { speech = IPIP, mtu = 1500 } = options;
  const name = (part: string) => `tortie-t${process.pid}-${tag}${part}`;
  const [a, b, router] = [name('a'), name('b'), name('r')];
  const run = (namespace: string, command: string, ...words: string[]) =>
    execFileSync('ip', ['netns', 'exec', namespace, command, ...words], {
      timeout: 30_000,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  for (const namespace of [a, b, router]) {
    ip('netns', 'add', namespace);
    run(
      namespace,
      'sysctl',
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
      'net.ipv4.conf.all.rp_filter=0',
      'net.ipv4.conf.default.rp_filter=0',
    );
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
  }
  connect(a, router, 'to-a', '10.0.1', WORKLOAD_A, mtu);
  connect(b, router, 'to-b', '10.0.2', WORKLOAD_B, mtu);
  const { startDataPlane } = (await import(
    '../../dist/agent/data-plane.js' as string
  )) as typeof import('../../src/agent/data-plane.ts');
  const start = (namespace: string) =>
    startDataPlane({
      device: 'tunl0',
      ...speech,
      sender: options.frames ? 'packet' : 'raw',
      logger: silentLogger,
      onExit:
        options.onExit ??
        ((error) => {
          throw error;
        }),
      networkNamespace: namedNetworkNamespace(namespace),
    });
  const planes = { a: await start(a), b: await start(b) };
  const overlay = mtu - OVERHEAD_BYTES[speech.transport];
  device(a, WORKLOAD_A, '192.168.2.0/26', overlay);
  device(b, WORKLOAD_B, '192.168.1.0/26', overlay);
  await planes.a.replace(configOf('a', {}, speech));
  await planes.b.replace(configOf('b', {}, speech));
  for (const namespace of [a, b]) await untilQueued(namespace, 'eth0', 'tunl0');
  return {
    a,
    b,
    router,
    planes,
    run,
    async restart(node) {
      planes[node] = await start(node === 'a' ? a : b);
      await planes[node].replace(configOf(node, {}, speech));
      await untilQueued(node === 'a' ? a : b, 'tunl0');
    },
    async close() {
      await planes.a.stop();
      await planes.b.stop();
      for (const namespace of [a, b, router]) ip('netns', 'del', namespace);
    },
  };
}

function connect(
  node: string,
  router: string,
  link: string,
  net: string,
  workload: string,
  mtu: number,
): void {
  ip(
    '-n',
    node,
    'link',
    'add',
    'eth0',
    'mtu',
    `${mtu}`,
    'type',
    'veth',
    'peer',
    'name',
    link,
    'mtu',
    `${mtu}`,
    'netns',
    router,
  );
  ip('-n', node, 'addr', 'add', `${net}.11/24`, 'dev', 'eth0');
  ip('-n', router, 'addr', 'add', `${net}.1/24`, 'dev', link);
  ip('-n', node, 'link', 'set', 'eth0', 'up');
  ip('-n', router, 'link', 'set', link, 'up');
  ip('-n', node, 'route', 'add', 'default', 'via', `${net}.1`);
  ip('-n', node, 'addr', 'add', `${workload}/32`, 'dev', 'lo');
}

function device(node: string, workload: string, block: string, mtu: number): void {
  ip('-n', node, 'link', 'set', 'tunl0', 'mtu', `${mtu}`, 'up');
  ip('-n', node, 'route', 'add', block, 'dev', 'tunl0', 'src', workload);
}

/** Packets in = packets out + drops, on every data plane and in both directions; read where nothing is in flight. */
export function conservationGaps(nodes: TwoNodes): Record<string, number> {
  const result: Record<string, number> = {};
  for (const [name, plane] of Object.entries(nodes.planes))
    for (const direction of ['outbound', 'inbound'] as const)
      result[`${name} ${direction}`] = conservationGap(plane.counters(), direction);
  return result;
}

export const NO_GAPS = { 'a outbound': 0, 'a inbound': 0, 'b outbound': 0, 'b inbound': 0 };

/** The gaps once the last batch is through: counters settle then. That same reading, since the next may be amid a packet. */
export async function settledGaps(nodes: TwoNodes): Promise<Record<string, number>> {
  const none = await poll(systemClock, 5000, 10, async () => {
    const gaps = conservationGaps(nodes);
    return Object.values(gaps).every((gap) => gap === 0) ? gaps : undefined;
  });
  return none ?? conservationGaps(nodes);
}

/** What a command printed, also where it failed: ping exits with 1 where answers are missing. */
export function printed(run: () => string): string {
  try {
    return run();
  } catch (error) {
    return String((error as { stdout?: string }).stdout);
  }
}
