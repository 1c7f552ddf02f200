/** What `tortie node run` is told, by flags and by calico/node's environment; flags win. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../base/errors.ts';
import { type InterfaceAddress, type Prefix, parseInterfaceAddress, parsePrefix } from '../ip/prefix.ts';
import { type DetectionMethod, parseDetectionMethod } from './autodetection.ts';
import { pinRoot } from './fast-path-pins.ts';
import { FAST_PATH_MODES, type FastPathMode } from './fast-path-state.ts';

/** Flags as the command line gives them: text. */
export interface NodeRunFlags {
  readonly name?: string;
  readonly ip?: string;
  readonly ipAutodetectionMethod?: string;
  readonly device?: string;
  readonly mtu?: string;
  readonly metrics?: string;
  readonly transport?: string;
  readonly udpPort?: string;
  readonly sender?: string;
  readonly queues?: string;
  readonly fastPath?: string;
  readonly pin?: true;
}

/** How protocol 4 leaves: by raw sockets, or as frames of our own where nothing is gone around. */
export type SenderMode = 'auto' | 'raw' | 'packet';
const SENDER_MODES: readonly SenderMode[] = ['auto', 'raw', 'packet'];

export interface FastPathSettings {
  readonly mode: FastPathMode;
  /** Whether it goes on without the agent. */
  readonly pin: boolean;
  readonly pinRoot: string;
}

/** How the node comes by its address. */
export type AddressSource =
  /** Detect now and write it. */
  | { readonly type: 'detect' }
  /** Keep what the Node resource has; detect where it has none. */
  | { readonly type: 'keep' }
  /** `bare`: given without a length, which is looked up on the interfaces. */
  | { readonly type: 'given'; readonly address: InterfaceAddress; readonly bare: boolean };

export interface DefaultPool {
  readonly cidr: Prefix;
  readonly ipipMode: 'Always' | 'CrossSubnet' | 'Never';
}

export interface AgentOptions {
  readonly node: string;
  readonly address: AddressSource;
  readonly method: DetectionMethod;
  readonly device: string;
  /** null: automatic. */
  readonly mtu: number | null;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly udpPort: number;
  readonly sender: SenderMode;
  readonly queues: number;
  readonly fastPath: FastPathSettings;
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly defaultPool: DefaultPool | null;
  readonly runDirectory: string;
}

export const DEFAULT_DEVICE = 'tunl0';
/** Where kube-router's FOU listens, too. */
export const DEFAULT_UDP_PORT = 5555;
const DEFAULT_POOL = '192.168.0.0/16';
const QUEUES_MAX = 16;
/** Prefix length of the default pool's blocks. */
export const DEFAULT_POOL_BLOCK_SIZE = 26;
/** Interface names have 15 characters, no slash, no blank. */
const DEVICE_NAME = /^[^\s/]{1,15}$/;
/** Calico's names of nodes. */
const NODE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export function runDirectoryOf(env: NodeJS.ProcessEnv): string {
  return env.TORTIE_RUN_DIR || '/run/tortie';
}

export function nodeNameOf(flag: string | undefined, env: NodeJS.ProcessEnv): string {
  const name = (flag ?? env.NODENAME ?? env.HOSTNAME_OVERRIDE ?? hostname()).toLowerCase();
  if (!NODE_NAME.test(name))
    throw new UsageError(`the node's name: expected lower-case letters, digits, '-' and '.', got "${name}"`, {
      hint: 'give one with --name or NODENAME',
    });
  return name;
}

export function socketPath(runDirectory: string, node: string): string {
  return join(runDirectory, `node-${node}.sock`);
}

/** @throws UsageError that names the flag or variable */
export function parseAgentOptions(flags: NodeRunFlags, env: NodeJS.ProcessEnv): AgentOptions {
  const method = flags.ipAutodetectionMethod ?? (env.IP_AUTODETECTION_METHOD || undefined) ?? 'first-found';
  const device = deviceNameOf(flags.device);
  return {
    node: nodeNameOf(flags.name, env),
    address: addressSource(flags.ip ?? env.IP ?? ''),
    method: parseDetectionMethod(method),
    device,
    mtu: parseMtu(flags.mtu ?? env.FELIX_IPINIPMTU ?? ''),
    transport: oneOf('--transport', flags.transport ?? 'ipip', ['ipip', 'udp', 'auto']),
    udpPort: wholeNumber('--udp-port', flags.udpPort ?? String(DEFAULT_UDP_PORT), 1, 65535),
    sender: senderMode(flags.sender),
    queues: queueCount(flags.queues),
    fastPath: fastPathSettings(flags, env),
    metrics: flags.metrics === undefined ? null : listenAddress(flags.metrics),
    defaultPool: defaultPool(env),
    runDirectory: runDirectoryOf(env),
  };
}

export function senderMode(flag: string | undefined): SenderMode {
  return oneOf('--sender', flag ?? 'auto', SENDER_MODES);
}

/** Each is a thread of its own. */
export function queueCount(flag: string | undefined): number {
  return wholeNumber('--queues', flag ?? '1', 1, QUEUES_MAX);
}

export function fastPathSettings(
  flags: { readonly fastPath?: string; readonly pin?: true },
  env: NodeJS.ProcessEnv,
): FastPathSettings {
  const mode = oneOf('--fast-path', flags.fastPath ?? 'off', FAST_PATH_MODES);
  if (flags.pin && mode === 'off')
    throw new UsageError('--pin: there is nothing to pin with --fast-path off', {
      hint: 'use --fast-path auto or ebpf',
    });
  return { mode, pin: flags.pin ?? false, pinRoot: pinRoot(env) };
}

export function deviceNameOf(flag: string | undefined): string {
  const device = flag ?? DEFAULT_DEVICE;
  if (!DEVICE_NAME.test(device))
    throw new UsageError(`--device: expected an interface name of up to 15 characters, got "${device}"`);
  return device;
}

/** calico/node: `IP=autodetect` detects at every start, an unset IP only where the resource has none. */
function addressSource(text: string): AddressSource {
  if (text === 'autodetect') return { type: 'detect' };
  if (text === '' || text === 'none') return { type: 'keep' };
  const address = parseInterfaceAddress(text);
  if (!address) throw new UsageError(`--ip: expected ADDRESS, ADDRESS/LENGTH or autodetect, got "${text}"`);
  return { type: 'given', address, bare: !text.includes('/') };
}

/** FELIX_IPINIPMTU=0 means automatic, as in Felix. 68: every IPv4 link must carry that much (RFC 791). */
export function parseMtu(text: string): number | null {
  if (text === '' || text === 'auto' || text === '0') return null;
  return wholeNumber('--mtu', text, 68, 65535);
}

export function wholeNumber(what: string, text: string, least: number, most: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new UsageError(`${what}: expected a whole number from ${least} to ${most}, got "${text}"`);
  return value;
}

export function oneOf<T extends string>(what: string, text: string, values: readonly T[]): T {
  const value = values.find((v) => v === text);
  if (value === undefined) throw new UsageError(`${what}: expected ${values.join(', ')}, got "${text}"`);
  return value;
}

/** `9091`, `:9091` or `127.0.0.1:9091`; without a host on loopback only. */
export function listenAddress(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  return {
    host: text.slice(0, Math.max(0, colon)).replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: wholeNumber('--metrics', text.slice(colon + 1), 0, 65535),
  };
}

function defaultPool(env: NodeJS.ProcessEnv): DefaultPool | null {
  if (env.NO_DEFAULT_POOLS === 'true') return null;
  const text = env.CALICO_IPV4POOL_CIDR || DEFAULT_POOL;
  if (text === 'none') return null;
  const cidr = parsePrefix(text);
  if (!cidr) throw new UsageError(`CALICO_IPV4POOL_CIDR: expected an IPv4 prefix, got "${text}"`);
  if (cidr.length > DEFAULT_POOL_BLOCK_SIZE)
    throw new UsageError(
      `CALICO_IPV4POOL_CIDR: expected a prefix of at most /${DEFAULT_POOL_BLOCK_SIZE}, the size of a block, got "${text}"`,
    );
  return { cidr, ipipMode: poolMode(env.CALICO_IPV4POOL_IPIP || 'Always') };
}

/** calico/node takes v1's words and v3's. */
function poolMode(text: string): DefaultPool['ipipMode'] {
  switch (text.toLowerCase()) {
    case 'always':
      return 'Always';
    case 'cross-subnet':
    case 'crosssubnet':
      return 'CrossSubnet';
    case 'off':
    case 'never':
      return 'Never';
    default:
      throw new UsageError(`CALICO_IPV4POOL_IPIP: expected Always, CrossSubnet or Never, got "${text}"`);
  }
}
