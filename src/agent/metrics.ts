/** Prometheus' view of an agent: the data plane's counters under their own names, and the agent's state. */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Status } from './status.ts';

/** The text that a scrape gets; `status` is asked anew each time. */
export function createMetrics(status: () => Promise<Status> | Status): {
  text(): Promise<string>;
  readonly type: string;
} {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const state = new Gauge({
    name: 'tortie_agent_state',
    help: '1 for the state that the agent is in',
    labelNames: ['state'],
    registers: [registry],
  });
  const table = new Gauge({
    name: 'tortie_table_size',
    help: 'Rows: forwarding entries, host routes (of `tunnel run`: those followed), peers',
    labelNames: ['table'],
    registers: [registry],
  });
  return {
    type: registry.contentType,
    async text() {
      const now = await status();
      for (const name of ['starting', 'running', 'degraded'])
        state.set({ state: name }, now.state === name ? 1 : 0);
      table.set({ table: 'entries' }, now.entries);
      table.set({ table: 'routes' }, now.routes);
      table.set({ table: 'peers' }, now.peers.length);
      return `${await registry.metrics()}${counterLines(now)}${peerLines(now)}`;
    },
  };
}

/** Counters that live elsewhere are printed as they are: copying them into prom-client's own would say nothing more. */
function counterLines(status: Status): string {
  return Object.entries(status.counters)
    .map(([name, value]) => `# TYPE tortie_${name} counter\ntortie_${name} ${value}\n`)
    .join('');
}

const PEER_COUNTERS = [
  'outboundPackets',
  'outboundBytes',
  'outboundDrops',
  'inboundPackets',
  'inboundBytes',
  'inboundDrops',
] as const;

function peerLines(status: Status): string {
  return PEER_COUNTERS.map((field) => {
    const name = `tortie_peer_${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    const lines = status.peers.map((peer) => `${name}{peer="${peer.address}"} ${peer[field]}\n`);
    return `# TYPE ${name} counter\n${lines.join('')}`;
  }).join('');
}
