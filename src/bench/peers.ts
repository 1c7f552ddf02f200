/**
 * Other userspace tunnels, each at its best as far as its documentation tells: no encryption where it can do
 * without, the largest MTU that leaves outer packets whole, the same transmit queue as ours.
 */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { answered, type Contender, configureDevice, DEVICE, TUNNEL_FIGURES } from './contender.ts';
import {
  type Background,
  command,
  HOSTS,
  type Host,
  OVERLAY,
  other,
  type TwoHosts,
  UNDERLAY,
} from './two-hosts.ts';

const IPV4_AND_UDP_BYTES = 28;
const KEYS_MS = 10_000;

/** A contender with a directory for its configuration. */
interface PeerSetup {
  readonly name: string;
  readonly kind: 'plain' | 'batching';
  readonly settings: string;
  start(hosts: TwoHosts, directory: string): Promise<string>;
  /** Files that it leaves on the host. */
  readonly leaves?: readonly string[];
}

function peer(setup: PeerSetup): Contender {
  const { name, kind, settings } = setup;
  return {
    name,
    kind,
    settings,
    figures: TUNNEL_FIGURES,
    remove() {
      for (const file of setup.leaves ?? []) rmSync(file, { force: true });
    },
    async start(hosts) {
      const directory = mkdtempSync(join(tmpdir(), 'tortie-bench-'));
      try {
        return await setup.start(hosts, directory);
      } finally {
        // Read by now: it answers.
        rmSync(directory, { recursive: true, force: true });
      }
    },
  };
}

/** Its header is one byte. */
const FASTD_OVERHEAD_BYTES = IPV4_AND_UDP_BYTES + 1;

export const fastd = peer({
  name: 'fastd',
  kind: 'plain',
  settings: 'method `null` (no encryption), TUN mode, MTU 29 below the underlay’s',
  async start(hosts, directory) {
    const mtu = hosts.mtu - FASTD_OVERHEAD_BYTES;
    const keys = { a: await fastdKeys(), b: await fastdKeys() };
    const running: Background[] = [];
    for (const host of HOSTS) {
      const file = join(directory, `fastd-${host}.conf`);
      const lines = [
        `log level warn; mode tun; interface "${DEVICE}"; method "null"; mtu ${mtu};`,
        `bind ${UNDERLAY[host]}:10000; secret "${keys[host].secret}";`,
        `peer "other" { key "${keys[other(host)].public}"; remote ${UNDERLAY[other(host)]} port 10000; }`,
      ];
      writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
      running.push(hosts.start(host, ['fastd', '--config', file]));
    }
    await configureDevice(hosts, () => DEVICE, mtu, running);
    return answered(hosts, OVERLAY.b, running);
  },
});

async function fastdKeys(): Promise<{ secret: string; public: string }> {
  const text = await command(['fastd', '--generate-key'], KEYS_MS);
  const [secret, publicKey] = [
    /Secret: ([0-9a-f]{64})/i.exec(text)?.[1],
    /Public: ([0-9a-f]{64})/i.exec(text)?.[1],
  ];
  if (!secret || !publicKey) throw new FailedError('ERR_BENCH', `fastd --generate-key: no keys in ${text}`);
  return { secret, public: publicKey };
}

/** Two bytes of length before each packet. */
const VTUN_OVERHEAD_BYTES = IPV4_AND_UDP_BYTES + 2;

export const vtun = peer({
  name: 'vtun',
  kind: 'plain',
  settings: 'TUN over UDP, `encrypt no; compress no`, MTU 30 below the underlay’s',
  leaves: ['/var/run/vtund.server.pid'],
  async start(hosts, directory) {
    const file = join(directory, 'vtun.conf');
    const session =
      'type tun; proto udp; encrypt no; compress no; keepalive no; stat no; speed 0; multi yes;';
    writeFileSync(
      file,
      `options { port 5000; timeout 20; }\nbench { passwd bench; device ${DEVICE}; ${session} }\n`,
      { mode: 0o600 },
    );
    const common = ['-n', '-f', file, '-P', '5000'];
    const server = ['vtund', '-s', ...common];
    const running = [
      hosts.start('b', server),
      hosts.start('a', ['vtund', ...common, '-p', 'bench', UNDERLAY.b]),
    ];
    await configureDevice(hosts, () => DEVICE, hosts.mtu - VTUN_OVERHEAD_BYTES, running);
    return answered(hosts, OVERLAY.b, running);
  },
});

/** Header 16, counter and tag. */
const WIREGUARD_OVERHEAD_BYTES = IPV4_AND_UDP_BYTES + 32;
const UAPI_MS = 5_000;

/** `program`: the binary that `go install golang.zx2c4.com/wireguard@latest` makes. */
export function wireguardGo(program: string): Contender {
  return peer({
    name: 'wireguard-go',
    kind: 'batching',
    leaves: HOSTS.map(wireguardSocket),
    settings:
      'newest by `go install golang.zx2c4.com/wireguard@latest`; encrypts (ChaCha20); MTU 60 below the underlay’s',
    async start(hosts) {
      const keys = { a: wireguardKeys(), b: wireguardKeys() };
      const running: Background[] = [];
      for (const host of HOSTS) {
        const device = wireguardDevice(host);
        running.push(hosts.start(host, [program, '-f', device], { LOG_LEVEL: 'error' }));
        await configureWireguard(wireguardSocket(host), [
          `private_key=${keys[host].private}`,
          'listen_port=51820',
          `public_key=${keys[other(host)].public}`,
          `endpoint=${UNDERLAY[other(host)]}:51820`,
          'replace_allowed_ips=true',
          'allowed_ip=0.0.0.0/0',
        ]);
      }
      await configureDevice(hosts, wireguardDevice, hosts.mtu - WIREGUARD_OVERHEAD_BYTES, running);
      return answered(hosts, OVERLAY.b, running);
    },
  });
}

/** Its control socket is named after the device, in a directory that all namespaces share. */
const wireguardDevice = (host: Host) => `bw${process.pid}${host}`;
const wireguardSocket = (host: Host) => `/var/run/wireguard/${wireguardDevice(host)}.sock`;

/** Raw keys in hexadecimal: the last 32 bytes of their DER forms (RFC 8410). */
function wireguardKeys(): { private: string; public: string } {
  const pair = generateKeyPairSync('x25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
  const raw = (der: Buffer) => der.subarray(-32).toString('hex');
  return { private: raw(pair.privateKey), public: raw(pair.publicKey) };
}

/** One request of its configuration protocol. */
async function configureWireguard(socketPath: string, lines: readonly string[]): Promise<void> {
  const there = async () => (existsSync(socketPath) ? true : undefined);
  if (!(await poll(systemClock, UAPI_MS, 20, there)))
    throw new FailedError('ERR_BENCH', `wireguard-go made no ${socketPath} within ${UAPI_MS} ms`);
  const answer = await new Promise<string>((done, failed) => {
    const socket = createConnection(socketPath);
    let text = '';
    socket.setTimeout(UAPI_MS, () => socket.destroy(new Error(`no answer within ${UAPI_MS} ms`)));
    socket.setEncoding('utf8').on('data', (data) => {
      text += data;
      if (text.endsWith('\n\n')) socket.end();
    });
    socket.once('error', failed).once('close', () => done(text));
    socket.write(`set=1\n${lines.join('\n')}\n\n`);
  });
  if (!/errno=0/.test(answer)) throw new FailedError('ERR_BENCH', `wireguard-go refused: ${answer.trim()}`);
}

/**
 * Any other tunnel: DIRECTORY/run is started in each host's namespace and has to make the device DEVICE with
 * ADDRESS (and the route to PEER_ADDRESS), and to stay. It is told by its environment: HOST (a or b), LOCAL and
 * REMOTE (underlay addresses), MTU (the underlay's), STATE (an empty directory of both hosts', there until they answer).
 */
export function directoryPeer(name: string, directory: string): Contender {
  const program = join(resolve(directory), 'run');
  if (!existsSync(program))
    throw new FailedError('ERR_BENCH', `--peer ${name}: ${program} does not exist`, {
      hint: 'a program that makes $DEVICE with $ADDRESS between $LOCAL and $REMOTE, and stays: docs/performance.md',
    });
  return peer({
    name,
    kind: 'batching',
    settings: `\`${join(directory, 'run')}\``,
    async start(hosts, state) {
      const running = HOSTS.map((host) =>
        hosts.start(host, [program], {
          DEVICE,
          HOST: host,
          LOCAL: UNDERLAY[host],
          REMOTE: UNDERLAY[other(host)],
          ADDRESS: OVERLAY[host],
          PEER_ADDRESS: OVERLAY[other(host)],
          MTU: String(hosts.mtu),
          STATE: state,
        }),
      );
      return answered(hosts, OVERLAY.b, running);
    },
  });
}
