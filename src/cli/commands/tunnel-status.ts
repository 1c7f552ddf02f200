/** `tortie tunnel status`: what the process that serves a device says of itself, for people or programs. */

import { deviceNameOf, runDirectoryOf } from '../../agent/data-plane-settings.ts';
import { fastPathLines } from '../../agent/fast-path-state.ts';
import { senderLine } from '../../agent/sender-state.ts';
import { TUNNEL_STATUS_VERSION, type TunnelStatus } from '../../agent/status.ts';
import { askStatus } from '../../agent/status-socket.ts';
import { tunnelSocketPath } from '../../agent/tunnel-options.ts';
import { peerTable, queueLines, troubleLines } from '../output/status-page.ts';

export async function tunnelStatus(flags: { device?: string; json?: true }): Promise<number> {
  const device = deviceNameOf(flags.device);
  const status = await askStatus<TunnelStatus>({
    socket: tunnelSocketPath(runDirectoryOf(process.env), device),
    version: TUNNEL_STATUS_VERSION,
    silence: {
      code: 'ERR_NO_TUNNEL',
      text: `nobody serves ${device}`,
      hint: `tortie tunnel run --device ${device}`,
    },
  });
  process.stdout.write(flags.json ? `${JSON.stringify(status, null, 2)}\n` : page(status));
  return status.state === 'running' ? 0 : 1;
}

function page(status: TunnelStatus): string {
  const { device, lastChange } = status;
  const state = [device.up ? 'up' : 'down', device.carrier ? 'carrier' : 'no carrier'].join(', ');
  const change = lastChange ? `${lastChange.what} (${lastChange.at})` : 'none since start';
  return [
    `The tunnel ${device.name} is ${status.state} (pid ${status.pid}, since ${status.startedAt}).`,
    '',
    `Device:       ${device.name}, ${state}, MTU ${device.mtu ?? 'unknown'}, transport ${status.transport}, ` +
      `local ${status.local ?? "the kernel's choice"}`,
    `Routes:       ${status.routes} followed, ${status.entries} prefixes through the device`,
    ...(status.guard.length > 0 ? [`Guard:        ${status.guard.join(', ')}`] : []),
    `Sender:       ${senderLine(status.sender, status.counters)}`,
    ...queueLines(status).map((line) => `Queues:       ${line}`),
    ...fastPathLines(status.fastPath, status.counters).map((line) => `Fast path:    ${line}`),
    `Last change:  ${change}`,
    '',
    ...peerTable(status.peers, { 'NEXT-HOP': (peer) => peer.address }),
    ...troubleLines(status),
    '',
  ].join('\n');
}
