/** What `tortie tunnel run` is told: by flags only, since it serves whoever puts routes on its device. */
import { join } from 'node:path';
import { UsageError } from '../base/errors.ts';
import { type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import { hostPrefix, type Prefix, parsePrefix, prefixOf } from '../ip/prefix.ts';
import {
  type DataPlaneFlags,
  type DataPlaneSettings,
  parseDataPlaneSettings,
  parseMtu,
} from './data-plane-settings.ts';

export interface TunnelRunFlags extends DataPlaneFlags {
  readonly local?: string;
  readonly allow?: string;
  readonly guard?: string;
}

export interface TunnelOptions extends DataPlaneSettings {
  /** Source of the outer header, and the only address that we take packets at; null: whatever the kernel says. */
  readonly local: Ipv4 | null;
  /** null: automatic for a device that we make, and none of our business for one that is there. */
  readonly mtu: number | null;
  readonly allow: readonly Prefix[];
  /** What must not leave plain while other people's routes are gone. */
  readonly guard: readonly Prefix[];
}

export function tunnelSocketPath(runDirectory: string, device: string): string {
  return join(runDirectory, `tunnel-${device}.sock`);
}

/** Which guard routes are ours. */
export function tunnelGuardFile(runDirectory: string, device: string): string {
  return join(runDirectory, `tunnel-${device}.guard`);
}

/** @throws UsageError that names the flag */
export function parseTunnelOptions(flags: TunnelRunFlags, env: NodeJS.ProcessEnv): TunnelOptions {
  return {
    local: localAddress(flags.local),
    mtu: parseMtu(flags.mtu ?? ''),
    allow: flags.allow === 'any' ? [prefixOf(0, 0)] : prefixes('--allow', flags.allow),
    guard: prefixes('--guard', flags.guard),
    ...parseDataPlaneSettings(flags, env),
  };
}

function localAddress(text: string | undefined): Ipv4 | null {
  if (text === undefined) return null;
  const address = parseIpv4(text);
  if (address === undefined) throw new UsageError(`--local: expected an IPv4 address, got "${text}"`);
  return address;
}

function prefixes(flag: '--allow' | '--guard', text: string | undefined): Prefix[] {
  if (text === undefined) return [];
  return text.split(',').map((word) => {
    const address = parseIpv4(word);
    const prefix = address === undefined ? parsePrefix(word) : hostPrefix(address);
    if (!prefix)
      throw new UsageError(
        `${flag}: expected ${flag === '--allow' ? "'any' or " : ''}CIDR[,…] without host bits, got "${word}"`,
        { hint: `for example ${flag} ${flag === '--allow' ? '10.0.0.0/16,192.0.2.7' : '192.168.0.0/16'}` },
      );
    return prefix;
  });
}
