/** Removes what is ours from the host: routes, packet rules, the device; puts old sysctl values back. */
import { ROUTE_PROTOCOL } from '../control/ports.ts';
import { output, run } from './commands.ts';
import { parseLinks } from './ip-json.ts';
import type { SysctlMemory } from './sysctl.ts';

/** Gives one line for each thing that was removed. */
export async function cleanUp(device: string, memory: SysctlMemory): Promise<string[]> {
  const removed: string[] = [];
  const ours = ['table', 'main', 'proto', String(ROUTE_PROTOCOL)];
  const routes = (await output(['ip', '-4', 'route', 'show', ...ours])).split('\n').filter(Boolean);
  if (routes.length) {
    await output(['ip', '-4', 'route', 'flush', ...ours]);
    removed.push(`${routes.length} routes`);
  }
  const table = await run(['nft', 'list', 'table', 'ip', 'tortie']);
  if (table.status === 0) {
    await output(['nft', 'delete', 'table', 'ip', 'tortie']);
    removed.push('the nftables table ip tortie');
  }
  // Before the sysctls: the device's own go with it, and need no putting back.
  const shown = await run(['ip', '-details', '-json', 'address', 'show', 'dev', device]);
  const link = shown.status === 0 ? parseLinks(shown.stdout).links[0] : undefined;
  if (link?.kind === 'tun') {
    await output(['ip', 'link', 'delete', 'dev', device]);
    removed.push(`the device ${device}`);
  }
  for (const name of memory.restore()) removed.push(`our value of ${name}`);
  return removed;
}
