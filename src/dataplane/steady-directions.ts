/**
 * Both directions in their steady state, on memory: one peer that packets go to and come from, the same batch of
 * packets again and again, no kernel. For the warm-up, and for measuring the inner loops.
 */
import type { ForwardingConfig } from '../fib/forwarding-config.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import type { Transport } from '../ip/mtu.ts';
import { Counters, createCounterMemory } from './counters.ts';
import { Inbound } from './inbound.ts';
import { Outbound } from './outbound.ts';
import { PathState } from './path-state.ts';
import type { PacketMemory } from './ports.ts';
import type { SumBytes } from './segmentation.ts';
import { RepeatingSource, SwallowingSink, steadyWaiter } from './steady-links.ts';
import { joined, PEER, SELF, wrapped } from './steady-packets.ts';

export interface SteadyParts {
  readonly transport: Transport;
  readonly config: ForwardingConfig;
  readonly memory: PacketMemory;
  readonly sum?: SumBytes;
  readonly slotBytes?: number;
}

/** A direction that runs the same batch with every `step`. */
export interface SteadyDirection {
  readonly step: () => unknown;
  readonly counters: Counters;
}

const clock = () => performance.now();

/** `packets`: as the TUN delivers them. */
export function steadyOutbound(parts: SteadyParts, packets: readonly Uint8Array[]): SteadyDirection {
  const { transport, config, memory, sum, slotBytes } = parts;
  const table = new ForwardingTable(clock);
  table.replace(config);
  const counters = new Counters('outbound', createCounterMemory());
  const outbound = new Outbound({
    memory,
    source: new RepeatingSource(memory, packets, undefined, slotBytes),
    sink: new SwallowingSink(memory),
    datagramSink: transport === 'udp' ? new SwallowingSink(memory) : undefined,
    waiter: steadyWaiter,
    table,
    paths: new PathState(clock),
    counters,
    clock,
    sum,
  });
  return { step: () => outbound.step(), counters };
}

/** `trains`: inner packets; by UDP those of a train, which are of one size, come in one slot. */
export function steadyInbound(
  parts: SteadyParts,
  trains: readonly (readonly Uint8Array[])[],
): SteadyDirection {
  const { transport, config, memory, sum, slotBytes } = parts;
  const table = new SourceTable(clock);
  table.replace(config);
  const counters = new Counters('inbound', createCounterMemory());
  // A slot that holds one datagram has no segment size (ports.ts).
  const segmentBytes = trains.map((train) => (train.length > 1 ? train[0]!.length : 0));
  const way = { sender: PEER, destination: SELF, segmentBytes };
  const udp = transport === 'udp';
  const packets = udp ? trains.map((train) => joined(...train)) : trains.flat().map(wrapped);
  const source = new RepeatingSource(memory, packets, udp ? way : undefined, slotBytes);
  const inbound = new Inbound({
    memory,
    source,
    datagrams: udp ? source : undefined,
    sink: new SwallowingSink(memory),
    table,
    counters,
    udpSuperpackets: true,
    sum,
  });
  return { step: udp ? () => inbound.stepDatagrams() : () => inbound.step(), counters };
}
