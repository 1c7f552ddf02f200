/** What `node run` and `tunnel run` are told alike: of the data plane, and of what it tells. */
import { UsageError } from '../base/errors.ts';
import { wholeNumber } from '../base/whole-number.ts';
import { pinRoot } from './fast-path-pins.ts';
import { FAST_PATH_MODES, type FastPathMode } from './fast-path-state.ts';

/** Flags as the command line gives them: text. */
export interface DataPlaneFlags {
  readonly device?: string;
  readonly mtu?: string;
  readonly transport?: string;
  readonly udpPort?: string;
  readonly sender?: string;
  readonly queues?: string;
  readonly fastPath?: string;
  readonly pin?: true;
  readonly metrics?: string;
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

export interface DataPlaneSettings {
  readonly device: string;
  readonly transport: 'ipip' | 'udp' | 'auto';
  readonly udpPort: number;
  readonly sender: SenderMode;
  /** Of the device; each is read by a thread of its own. */
  readonly queues: number;
  readonly fastPath: FastPathSettings;
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly runDirectory: string;
}

export const DEFAULT_DEVICE = 'tunl0';
/** Where kube-router's FOU listens, too. */
const DEFAULT_UDP_PORT = 5555;
const QUEUES_MAX = 16;
/** Interface names have 15 characters, no slash, no blank. */
const DEVICE_NAME = /^[^\s/]{1,15}$/;

/** @throws UsageError that names the flag */
export function parseDataPlaneSettings(flags: DataPlaneFlags, env: NodeJS.ProcessEnv): DataPlaneSettings {
  return {
    device: deviceNameOf(flags.device),
    transport: oneOf('--transport', flags.transport ?? 'ipip', ['ipip', 'udp', 'auto']),
    udpPort: wholeNumber('--udp-port', flags.udpPort ?? String(DEFAULT_UDP_PORT), 1, 65535),
    sender: oneOf('--sender', flags.sender ?? 'auto', SENDER_MODES),
    queues: wholeNumber('--queues', flags.queues ?? '1', 1, QUEUES_MAX),
    fastPath: fastPathSettings(flags, env),
    metrics: flags.metrics === undefined ? null : listenAddress(flags.metrics),
    runDirectory: runDirectoryOf(env),
  };
}

export function runDirectoryOf(env: NodeJS.ProcessEnv): string {
  return env.TORTIE_RUN_DIR || '/run/tortie';
}

export function deviceNameOf(flag: string | undefined): string {
  const device = flag ?? DEFAULT_DEVICE;
  if (!DEVICE_NAME.test(device))
    throw new UsageError(`--device: expected an interface name of up to 15 characters, got "${device}"`);
  return device;
}

/** 0 means automatic, as in Felix (FELIX_IPINIPMTU=0). 68: every IPv4 link must carry that much (RFC 791). */
export function parseMtu(text: string): number | null {
  if (text === '' || text === 'auto' || text === '0') return null;
  return wholeNumber('--mtu', text, 68, 65535);
}

function fastPathSettings(flags: DataPlaneFlags, env: NodeJS.ProcessEnv): FastPathSettings {
  const mode = oneOf('--fast-path', flags.fastPath ?? 'off', FAST_PATH_MODES);
  if (flags.pin && mode === 'off')
    throw new UsageError('--pin: there is nothing to pin with --fast-path off', {
      hint: 'use --fast-path auto or ebpf',
    });
  return { mode, pin: flags.pin ?? false, pinRoot: pinRoot(env) };
}

function oneOf<T extends string>(what: string, text: string, values: readonly T[]): T {
  const value = values.find((v) => v === text);
  if (value === undefined) throw new UsageError(`${what}: expected ${values.join(', ')}, got "${text}"`);
  return value;
}

/** `9091`, `:9091` or `127.0.0.1:9091`; without a host on loopback only. */
function listenAddress(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  return {
    host: text.slice(0, Math.max(0, colon)).replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: wholeNumber('--metrics', text.slice(colon + 1), 0, 65535),
  };
}
