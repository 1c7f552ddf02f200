/** `tortie node status`: what the running agent says of itself, as a page for people or JSON for programs. */

import { runDirectoryOf } from '../../agent/data-plane-settings.ts';
import { fastPathLines } from '../../agent/fast-path-state.ts';
import { nodeNameOf, socketPath } from '../../agent/options.ts';
import { senderLine } from '../../agent/sender-state.ts';
import { AGENT_STATUS_VERSION, type AgentStatus } from '../../agent/status.ts';
import { askStatus } from '../../agent/status-socket.ts';
import { peerTable, queueLines, troubleLines } from '../output/status-page.ts';

export async function nodeStatus(flags: { name?: string; json?: true }): Promise<number> {
  const node = nodeNameOf(flags.name, process.env);
  const status = await askStatus<AgentStatus>({
    socket: socketPath(runDirectoryOf(process.env), node),
    version: AGENT_STATUS_VERSION,
    silence: {
      code: 'ERR_NO_AGENT',
      text: `no agent of node ${node} answers`,
      hint: `tortie node run --name ${node}`,
    },
  });
  process.stdout.write(flags.json ? `${JSON.stringify(status, null, 2)}\n` : page(status));
  return status.state === 'running' ? 0 : 1;
}

function page(status: AgentStatus): string {
  const datastore = status.datastore.connected
    ? 'connected'
    : `away (${status.datastore.why ?? 'not reached yet'})`;
  return [
    `Agent of ${status.node} is ${status.state} (pid ${status.pid}, since ${status.startedAt}).`,
    '',
    `Address:    ${status.address ?? 'none'}; tunnel address ${status.tunnelAddress ?? 'none'}`,
    `Device:     ${status.device.name}, MTU ${status.device.mtu ?? 'unknown'}, transport ${status.transport}`,
    `Datastore:  ${status.datastore.url}, ${datastore}, revision ${status.revision || 'none'}`,
    `Sender:     ${senderLine(status.sender, status.counters)}`,
    ...queueLines(status).map((line) => `Queues:     ${line}`),
    ...fastPathLines(status.fastPath, status.counters).map((line) => `Fast path:  ${line}`),
    `Tables:     ${status.entries} forwarding entries, ${status.routes} host routes, ${status.peers.length} peers`,
    '',
    ...peerTable(status.peers, { NODE: (peer) => peer.node ?? '?', ADDRESS: (peer) => peer.address }),
    ...troubleLines(status),
    '',
  ].join('\n');
}
