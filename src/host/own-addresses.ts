import type { HostAddress } from '../control/ports.ts';
import { output } from './commands.ts';
import { parseLinks } from './ip-json.ts';

/** The IPv4 addresses of this host's interfaces. */
export async function ownAddresses(): Promise<HostAddress[]> {
  return parseLinks(await output(['ip', '-details', '-json', 'address', 'show'])).addresses;
}
