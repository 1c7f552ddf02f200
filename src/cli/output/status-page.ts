/** What the pages of `node status` and `tunnel status` have alike. */
import type { PeerStatus, Status } from '../../agent/status.ts';
import { plainTable } from './plain-table.ts';

/** `leading`: columns before those of every peer. */
export function peerTable<Peer extends PeerStatus>(
  peers: readonly Peer[],
  leading: Readonly<Record<string, (peer: Peer) => string>>,
): string[] {
  const rows = peers.map((peer) => [
    ...Object.values(leading).map((cell) => cell(peer)),
    peer.transport,
    String(peer.outboundPackets),
    String(peer.inboundPackets),
    String(peer.outboundDrops + peer.inboundDrops),
    peer.pathMtu === null ? '-' : String(peer.pathMtu),
  ]);
  return plainTable([...Object.keys(leading), 'TRANSPORT', 'OUT', 'IN', 'DROPS', 'PATH-MTU'], rows);
}

/** Nothing where the device has one queue. */
export function queueLines({ queues }: Pick<Status, 'queues'>): string[] {
  if (queues.length < 2) return [];
  return [`${queues.length}, by which came ${queues.join(', ')} packets`];
}

/** Drops that were counted, and warnings, each under a heading where there are any. */
export function troubleLines(status: Pick<Status, 'counters' | 'warnings'>): string[] {
  const drops = Object.entries(status.counters).filter(([name, value]) => /_drop_/.test(name) && value > 0);
  return [
    ...(drops.length ? ['', 'Drops:', ...drops.map(([name, value]) => `  ${name} ${value}`)] : []),
    ...(status.warnings.length ? ['', 'Warnings:', ...status.warnings.map((text) => `  ${text}`)] : []),
  ];
}
