/** What `tortie node run` is told, by flags and by calico/node's environment; flags win. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../base/errors.ts';
import { type InterfaceAddress, type Prefix, parseInterfaceAddress, parsePrefix } from '../ip/prefix.ts';
import { type DetectionMethod, parseDetectionMethod } from './autodetection.ts';
import {
  type DataPlaneFlags,
  type DataPlaneSettings,
  parseDataPlaneSettings,
  parseMtu,
} from './data-plane-settings.ts';

/** Flags as the command line gives them: text. */
export interface NodeRunFlags extends DataPlaneFlags {
  readonly name?: string;
  readonly ip?: string;
  readonly ipAutodetectionMethod?: string;
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

export interface AgentOptions extends DataPlaneSettings {
  readonly node: string;
  readonly address: AddressSource;
  readonly method: DetectionMethod;
  /** null: automatic. */
  readonly mtu: number | null;
  readonly defaultPool: DefaultPool | null;
}

const DEFAULT_POOL = '192.168.0.0/16';
/** Prefix length of the default pool's blocks. */
export const DEFAULT_POOL_BLOCK_SIZE = 26;
/** Calico's names of nodes. */
const NODE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

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
  return {
    node: nodeNameOf(flags.name, env),
    address: addressSource(flags.ip ?? env.IP ?? ''),
    method: parseDetectionMethod(method),
    mtu: parseMtu(flags.mtu ?? env.FELIX_IPINIPMTU ?? ''),
    defaultPool: defaultPool(env),
    ...parseDataPlaneSettings(flags, env),
  };
}

/** calico/node: `IP=autodetect` detects at every start, an unset IP only where the resource has none. */
function addressSource(text: string): AddressSource {
  if (text === 'autodetect') return { type: 'detect' };
  if (text === '' || text === 'none') return { type: 'keep' };
  const address = parseInterfaceAddress(text);
  if (!address) throw new UsageError(`--ip: expected ADDRESS, ADDRESS/LENGTH or autodetect, got "${text}"`);
  return { type: 'given', address, bare: !text.includes('/') };
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
