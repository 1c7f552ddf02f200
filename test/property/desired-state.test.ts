/** The desired state kept change by change is the one computed from nothing, in whatever order things happen. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ClusterView, type ViewChange } from '../../src/control/cluster-view.ts';
import { DesiredState } from '../../src/control/desired-state.ts';
import { formatRoute } from '../../src/control/ports.ts';
import type {
  ForwardingConfig,
  ForwardingEntry,
  ForwardingOperation,
  Peer,
  SourceEntry,
} from '../../src/fib/forwarding-config.ts';
import { formatIpv4 } from '../../src/ip/ipv4.ts';
import { formatPrefix } from '../../src/ip/prefix.ts';
import { affinity, block, hostFacts, type KeyValue, node, pool, workload } from '../helpers/cluster.ts';

const SETTINGS = { node: 'node1', device: 'tunl0', mtu: null, transport: 'auto', udpPort: 5555 } as const;

const nodeName = fc.constantFrom('node1', 'node2', 'node3');
const blockCidr = fc.constantFrom('192.168.0.0/29', '192.168.0.8/29', '192.168.7.0/29', '172.20.0.0/29');
const given = fc.dictionary(fc.constantFrom('0', '1', '3'), nodeName, { maxKeys: 3 });

/** One value for one key, or the key's end. */
const event: fc.Arbitrary<readonly [string, string | undefined]> = fc.oneof(
  fc
    .tuple(fc.constantFrom('a', 'b'), fc.constantFrom('Always', 'CrossSubnet', 'Never'), fc.boolean())
    .map(([name, mode, nat]) => pool(name, name === 'a' ? '192.168.0.0/16' : '192.168.7.0/24', mode, nat)),
  fc
    .tuple(
      nodeName,
      fc.constantFrom('10.0.1.11/24', '10.0.1.12/24', '10.0.2.11/24', '10.0.1.11/32'),
      fc.option(fc.constantFrom('192.168.0.0', '192.168.7.3', '172.20.0.1'), { nil: undefined }),
      fc.option(fc.constant({ 'tortie/udp-port': '5555' }), { nil: undefined }),
    )
    .map((args) => node(...args)),
  fc
    .tuple(blockCidr, fc.option(nodeName), given)
    .map(([cidr, owner, addresses]) => block(cidr, owner, addresses)),
  fc
    .tuple(nodeName, blockCidr, fc.constantFrom('pending', 'confirmed', 'pendingDeletion'))
    .map((args) => affinity(...args)),
  fc
    .tuple(nodeName, fc.constantFrom('calif00', 'calif99'), fc.constantFrom('192.168.0.1', '192.168.7.3'))
    .map(([on, device, address]) => workload('w1', on, device, address)),
);
const eventOrEnd = fc
  .tuple(event, fc.boolean())
  .map(([[key, value], ends]): readonly [string, string | undefined] => [key, ends ? undefined : value]);

const asText = (config: ForwardingConfig) => ({
  ...config,
  revision: 0,
  entries: config.entries.map((e) => JSON.stringify(e)).sort(),
  sources: config.sources.map((s) => JSON.stringify(s)).sort(),
  peers: config.peers.map((p) => JSON.stringify(p)).sort(),
});

/** What the data plane would have after the operations: the port's contract, as slowly as it can be put. */
class Table {
  readonly entries = new Map<string, ForwardingEntry>();
  readonly sources = new Map<string, SourceEntry>();
  readonly peers = new Map<string, Peer>();
  rest: Pick<ForwardingConfig, 'outerSource' | 'localAddresses' | 'externalSources'>;

  constructor(config: ForwardingConfig) {
    for (const entry of config.entries) this.take({ op: 'set-entry', entry });
    for (const source of config.sources) this.take({ op: 'set-source', source });
    for (const peer of config.peers) this.take({ op: 'set-peer', peer });
    const { outerSource, localAddresses, externalSources } = config;
    this.rest = { outerSource, localAddresses, externalSources };
  }

  take(operation: ForwardingOperation): void {
    switch (operation.op) {
      case 'set-entry':
        this.entries.set(formatPrefix(operation.entry.prefix), operation.entry);
        break;
      case 'delete-entry':
        expect(this.entries.delete(formatPrefix(operation.prefix))).toBe(true);
        break;
      case 'set-source':
        this.sources.set(formatPrefix(operation.source.prefix), operation.source);
        break;
      case 'delete-source':
        expect(this.sources.delete(formatPrefix(operation.prefix))).toBe(true);
        break;
      case 'set-peer':
        this.peers.set(formatIpv4(operation.peer.address), operation.peer);
        break;
      case 'delete-peer':
        expect(this.peers.delete(formatIpv4(operation.address))).toBe(true);
        break;
      case 'set-local': {
        const { outerSource, localAddresses } = operation;
        this.rest = { ...this.rest, outerSource, localAddresses };
        break;
      }
      case 'set-external-sources':
        this.rest = { ...this.rest, externalSources: operation.prefixes };
    }
  }

  config(): ForwardingConfig {
    return {
      revision: 0,
      ...this.rest,
      entries: [...this.entries.values()],
      sources: [...this.sources.values()],
      peers: [...this.peers.values()],
    };
  }
}

test('incremental = from nothing, for table, operations and host, whatever the order', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(eventOrEnd, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
      (batches) => {
        const view = new ClusterView();
        view.apply(...node('node1', '10.0.1.11/24'));
        const desired = new DesiredState(SETTINGS, view, hostFacts());
        const table = new Table(desired.forwarding(1));
        const routes = new Map([...desired.host().routes].map(([key, route]) => [key, formatRoute(route)]));
        const state = new Map<string, string>([node('node1', '10.0.1.11/24') as KeyValue]);
        for (const batch of batches) {
          const changes: ViewChange[] = [];
          for (const [key, value] of batch) {
            // The node's last address is kept when its resource goes: history that "from nothing" does not have.
            if (key.endsWith('/node1') && value === undefined) continue;
            const change = view.apply(key, value);
            if (change) changes.push(change);
            if (value === undefined) state.delete(key);
            else state.set(key, value);
          }
          const change = desired.update(changes);
          for (const operation of change.operations) table.take(operation);
          for (const key of change.routes) {
            const route = desired.routes.get(key);
            if (route) routes.set(key, formatRoute(route));
            else routes.delete(key);
          }
        }
        const freshView = new ClusterView();
        for (const [key, value] of state) freshView.apply(key, value);
        const fresh = new DesiredState(SETTINGS, freshView, hostFacts());
        expect(asText(desired.forwarding(1))).toEqual(asText(fresh.forwarding(1)));
        expect(asText(table.config())).toEqual(asText(fresh.forwarding(1)));
        const freshRoutes = [...fresh.host().routes].map(([key, route]) => [key, formatRoute(route)]);
        expect(Object.fromEntries(routes)).toEqual(Object.fromEntries(freshRoutes));
        expect({ ...desired.hostWithoutRoutes(), sysctls: 0 }).toEqual({
          ...fresh.hostWithoutRoutes(),
          sysctls: 0,
        });
        expect(Object.fromEntries(desired.host().sysctls)).toEqual(Object.fromEntries(fresh.host().sysctls));
        expect(desired.warnings().sort()).toEqual(fresh.warnings().sort());
        expect(desired.rebuild()).toEqual({ operations: [], routes: [] });
      },
    ),
    { numRuns: 150 },
  );
});
