/** `tortie node status`: what the running agent says of itself, as a page for people or JSON for programs. */

import { fastPathLines } from '../../agent/fast-path-state.ts';
import { askUnix } from '../../agent/http.ts';
import { nodeNameOf, runDirectoryOf, socketPath } from '../../agent/options.ts';
import { type AgentPeerStatus, type AgentStatus, STATUS_VERSION } from '../../agent/status.ts';
import { FailedError, UnavailableError } from '../../base/errors.ts';
import { plainTable } from '../output/plain-table.ts';

export async function nodeStatus(flags: { name?: string; json?: true }): Promise<number> {
  const node = nodeNameOf(flags.name, process.env);
  const status = await askAgent(socketPath(runDirectoryOf(process.env), node), node);
  process.stdout.write(flags.json ? `${JSON.stringify(status, null, 2)}\n` : page(status));
  return status.state === 'running' ? 0 : 1;
}

/** @throws UnavailableError where no agent answers */
export async function askAgent(socket: string, node: string): Promise<AgentStatus> {
  const body = await askUnix(socket, '/v1/status');
  if (body === undefined)
    throw new UnavailableError('ERR_NO_AGENT', `no agent of node ${node} answers on ${socket}`, {
      hint: `tortie node run --name ${node}`,
    });
  const status = JSON.parse(body) as AgentStatus;
  if (status.version !== STATUS_VERSION)
    throw new FailedError(
      'ERR_STATUS_VERSION',
      `the agent speaks version ${status.version} of the status, this command version ${STATUS_VERSION}`,
      { hint: 'use the tortie that the agent was started with' },
    );
  return status;
}

function page(status: AgentStatus): string {
  const drops = Object.entries(status.counters).filter(([name, value]) => /_drop_/.test(name) && value > 0);
  const datastore = status.datastore.connected
    ? 'connected'
    : `away (${status.datastore.why ?? 'not reached yet'})`;
  return [
    `Agent of ${status.node} is ${status.state} (pid ${status.pid}, since ${status.startedAt}).`,
    '',
    `Address:    ${status.address ?? 'none'}; tunnel address ${status.tunnelAddress ?? 'none'}`,
    `Device:     ${status.device.name}, MTU ${status.device.mtu ?? 'unknown'}, transport ${status.transport}`,
    `Datastore:  ${status.datastore.url}, ${datastore}, revision ${status.revision || 'none'}`,
    ...fastPathLines(status.fastPath, status.counters).map((line) => `Fast path:  ${line}`),
    `Tables:     ${status.entries} forwarding entries, ${status.routes} host routes, ${status.peers.length} peers`,
    '',
    ...peerTable(status.peers),
    ...(drops.length ? ['', 'Drops:', ...drops.map(([name, value]) => `  ${name} ${value}`)] : []),
    ...(status.warnings.length ? ['', 'Warnings:', ...status.warnings.map((w) => `  ${w}`)] : []),
    '',
  ].join('\n');
}

function peerTable(peers: readonly AgentPeerStatus[]): string[] {
  const rows = peers.map((peer) => [
    peer.node ?? '?',
    peer.address,
    peer.transport,
    String(peer.outboundPackets),
    String(peer.inboundPackets),
    String(peer.outboundDrops + peer.inboundDrops),
    peer.pathMtu === null ? '-' : String(peer.pathMtu),
  ]);
  return plainTable(['NODE', 'ADDRESS', 'TRANSPORT', 'OUT', 'IN', 'DROPS', 'PATH-MTU'], rows);
}
