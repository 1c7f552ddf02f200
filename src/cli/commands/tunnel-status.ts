/** `tortie tunnel status`: what the process that serves a device says of itself, for people or programs. */
import { fastPathLines } from '../../agent/fast-path-state.ts';
import { askUnix } from '../../agent/http.ts';
import { deviceNameOf, runDirectoryOf } from '../../agent/options.ts';
import { tunnelSocketPath } from '../../agent/tunnel-options.ts';
import { TUNNEL_STATUS_VERSION, type TunnelStatus } from '../../agent/tunnel-status.ts';
import { FailedError, UnavailableError } from '../../base/errors.ts';
import { plainTable } from '../output/plain-table.ts';

export async function tunnelStatus(flags: { device?: string; json?: true }): Promise<number> {
  const device = deviceNameOf(flags.device);
  const status = await askTunnel(tunnelSocketPath(runDirectoryOf(process.env), device), device);
  process.stdout.write(flags.json ? `${JSON.stringify(status, null, 2)}\n` : page(status));
  return status.state === 'running' ? 0 : 1;
}

/** @throws UnavailableError where nobody answers */
async function askTunnel(socket: string, device: string): Promise<TunnelStatus> {
  const body = await askUnix(socket, '/v1/status');
  if (body === undefined)
    throw new UnavailableError('ERR_NO_TUNNEL', `nobody serves ${device}: no answer on ${socket}`, {
      hint: `tortie tunnel run --device ${device}`,
    });
  const status = JSON.parse(body) as TunnelStatus;
  if (status.version !== TUNNEL_STATUS_VERSION)
    throw new FailedError(
      'ERR_STATUS_VERSION',
      `it speaks version ${status.version} of the status, this command version ${TUNNEL_STATUS_VERSION}`,
      { hint: 'use the tortie that it was started with' },
    );
  return status;
}

function page(status: TunnelStatus): string {
  const { device, lastChange } = status;
  const state = [device.up ? 'up' : 'down', device.carrier ? 'carrier' : 'no carrier'].join(', ');
  const drops = Object.entries(status.counters).filter(([name, value]) => /_drop_/.test(name) && value > 0);
  const change = lastChange ? `${lastChange.what} (${lastChange.at})` : 'none since start';
  return [
    `The tunnel ${device.name} is ${status.state} (pid ${status.pid}, since ${status.startedAt}).`,
    '',
    `Device:       ${device.name}, ${state}, MTU ${device.mtu ?? 'unknown'}, transport ${status.transport}, ` +
      `local ${status.local ?? "the kernel's choice"}`,
    `Routes:       ${status.routes} followed, ${status.entries} prefixes through the device`,
    ...fastPathLines(status.fastPath, status.counters).map((line) => `Fast path:    ${line}`),
    `Last change:  ${change}`,
    '',
    ...peerTable(status),
    ...(drops.length ? ['', 'Drops:', ...drops.map(([name, value]) => `  ${name} ${value}`)] : []),
    ...(status.warnings.length ? ['', 'Warnings:', ...status.warnings.map((text) => `  ${text}`)] : []),
    '',
  ].join('\n');
}

function peerTable(status: TunnelStatus): string[] {
  const rows = status.peers.map((peer) => [
    peer.address,
    peer.transport,
    String(peer.outboundPackets),
    String(peer.inboundPackets),
    String(peer.outboundDrops + peer.inboundDrops),
    peer.pathMtu === null ? '-' : String(peer.pathMtu),
  ]);
  return plainTable(['NEXT-HOP', 'TRANSPORT', 'OUT', 'IN', 'DROPS', 'PATH-MTU'], rows);
}
