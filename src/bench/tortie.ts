/** Tortie as `tortie tunnel run` starts it: the data plane of `node run`, without a datastore. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pins, pinDirectory } from '../agent/fast-path-pins.ts';
import { askUnix } from '../agent/http.ts';
import type { TunnelStatus } from '../agent/status.ts';
import { tunnelSocketPath } from '../agent/tunnel-options.ts';
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { inNetworkNamespace, namedNetworkNamespace } from '../io/netns.ts';
import { answered, type Contender, TUNNEL_FIGURES } from './contender.ts';
import type { Figure } from './measure.ts';
import { type Background, command, HOSTS, type Host, other, type TwoHosts, UNDERLAY } from './two-hosts.ts';

const MAIN = installedFile('dist/cli/main.js').pathname;
const DEVICE = 'tunl0';
const START_MS = 20_000;
const POLL_MS = 50;
const MOUNT_MS = 10_000;

/** As Calico would have it: a block for each host, of which the first address is its tunnel address. */
const BLOCK: Readonly<Record<Host, string>> = { a: '192.168.1.0/26', b: '192.168.2.0/26' };
const TUNNEL_ADDRESS: Readonly<Record<Host, string>> = { a: '192.168.1.0', b: '192.168.2.0' };

export interface TortieWay {
  readonly name: string;
  /** Flags of `tunnel run`, beside --local. */
  readonly flags: readonly string[];
  readonly figures?: readonly Figure[];
  /** Options of Node.js, for profiles. */
  readonly nodeOptions?: string;
  /** Whether others are to reach the fast path's maps and links: they get names in a bpf file system. */
  readonly isPinned?: boolean;
}

/** The agents of one contender: their status, and their processes. */
export class TortieContender implements Contender {
  readonly name: string;
  readonly kind = 'tortie';
  readonly settings: string;
  readonly figures: readonly Figure[];
  readonly processes: Partial<Record<Host, Background>> = {};
  readonly #way: TortieWay;
  #directory = '';
  #isMounted = false;

  constructor(way: TortieWay) {
    this.#way = way;
    this.name = way.name;
    this.settings = `\`tortie tunnel run --local ADDRESS ${way.flags.join(' ')}\``;
    this.figures = way.figures ?? TUNNEL_FIGURES;
  }

  async start(hosts: TwoHosts): Promise<string> {
    const running: Background[] = [];
    this.#directory ||= mkdtempSync(join(tmpdir(), 'tortie-bench-'));
    const { isPinned = false, nodeOptions } = this.#way;
    if (isPinned) await this.#mount();
    for (const host of HOSTS) {
      mkdirSync(this.#runDirectory(host, hosts.mtu), { recursive: true });
      const pin = isPinned ? ['--pin'] : [];
      const flags = ['--local', UNDERLAY[host], '--log-level', 'warn', ...this.#way.flags, ...pin];
      const agent = hosts.start(host, [process.execPath, MAIN, 'tunnel', 'run', ...flags], {
        TORTIE_RUN_DIR: this.#runDirectory(host, hosts.mtu),
        ...(isPinned ? { TORTIE_BPF_DIR: this.#pinRoot() } : {}),
        ...(nodeOptions ? { NODE_OPTIONS: nodeOptions } : {}),
      });
      this.processes[host] = agent;
      running.push(agent);
    }
    for (const host of HOSTS) {
      await this.#until(host, hosts.mtu, (status) => status.state === 'running');
      const peer = other(host);
      await hosts.ip(
        host,
        `addr replace ${TUNNEL_ADDRESS[host]}/32 dev ${DEVICE}`,
        `link set ${DEVICE} up`,
        `route replace ${BLOCK[peer]} via ${UNDERLAY[peer]} dev ${DEVICE} onlink`,
      );
      await this.#until(host, hosts.mtu, (status) => status.entries === 1);
    }
    return answered(hosts, TUNNEL_ADDRESS.b, running);
  }

  async status(host: Host, mtu: number): Promise<TunnelStatus | null> {
    const socket = tunnelSocketPath(this.#runDirectory(host, mtu), DEVICE);
    return JSON.parse((await askUnix(socket, '/v1/status')) ?? 'null') as TunnelStatus | null;
  }

  /** Where the maps and links of a host are pinned. */
  pins(hosts: TwoHosts, host: Host): Pins {
    const namespace = namedNetworkNamespace(hosts.namespace(host));
    return new Pins(inNetworkNamespace(namespace, () => pinDirectory(this.#pinRoot(), DEVICE)));
  }

  async remove(): Promise<void> {
    if (this.#directory === '') return;
    if (this.#isMounted) await command(['umount', '--lazy', this.#bpf()], MOUNT_MS);
    this.#isMounted = false;
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Not below /sys: `ip netns exec` hides the host's, and what is pinned in its own ends with the command. */
  async #mount(): Promise<void> {
    if (this.#isMounted) return;
    mkdirSync(this.#bpf());
    await command(['mount', '-t', 'bpf', 'bpf', this.#bpf()], MOUNT_MS);
    this.#isMounted = true;
  }

  #bpf(): string {
    return join(this.#directory, 'bpf');
  }

  #pinRoot(): string {
    return join(this.#bpf(), 'tortie');
  }

  #runDirectory(host: Host, mtu: number): string {
    return join(this.#directory, `${host}-${mtu}`);
  }

  async #until(host: Host, mtu: number, wanted: (status: TunnelStatus) => boolean): Promise<void> {
    const agent = this.processes[host]!;
    const probe = async () => {
      if (agent.process.exitCode !== null)
        throw new FailedError('ERR_BENCH', `tortie: ${agent.log().trim()}`);
      const status = await this.status(host, mtu).catch(() => null);
      return status && wanted(status) ? true : undefined;
    };
    if (!(await poll(systemClock, START_MS, POLL_MS, probe)))
      throw new FailedError('ERR_BENCH', `tortie is not ready within ${START_MS} ms: ${agent.log().trim()}`);
  }
}
