/** The two programs in the kernel with the maps of a ForwardingConfig, run on single frames; and what the twins are asked. */
import { FastPathMaps } from '../../src/agent/fast-path-maps.ts';
import { FastTables } from '../../src/ebpf/fast-tables.ts';
import { inboundProgram } from '../../src/ebpf/inbound-program.ts';
import type { InboundTables } from '../../src/ebpf/inbound-twin.ts';
import {
  CELL_FIRST_REASON,
  FOREVER_NS,
  numberBytes,
  reasonsOf,
  settingsBytes,
} from '../../src/ebpf/layout.ts';
import { outboundProgram } from '../../src/ebpf/outbound-program.ts';
import type { OutboundTables } from '../../src/ebpf/outbound-twin.ts';
import type { ForwardingConfig } from '../../src/fib/forwarding-config.ts';
import { Bpf, TCX_EGRESS, TCX_INGRESS } from '../../src/io/bpf.ts';
import { systemCalls } from '../../src/io/libc.ts';
import { type Ipv4, ipv4FromNumber } from '../../src/ip/ipv4.ts';
import { type Prefix, prefixContains } from '../../src/ip/prefix.ts';

export const TUNNEL_DEVICE = 42;
export const UNDERLAY_DEVICE = 7;
export const ETHERNET = [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];

/** TCX_NEXT and TC_ACT_REDIRECT as the kernel gives them. */
export const GO_ON = -1;
export const REDIRECTED = 7;

export function framed(packet: Uint8Array): Uint8Array {
  return Uint8Array.from([...ETHERNET, ...packet]);
}

export function loadPrograms(config: ForwardingConfig) {
  const bpf = new Bpf();
  const maps = new FastPathMaps(bpf);
  const tables = new FastTables(maps, () => ({
    device: UNDERLAY_DEVICE,
    mtu: 0,
    hop: null,
    source: config.outerSource,
  }));
  tables.replace(config);
  const onUntil = (ns: bigint) => maps.set('settings', numberBytes(0), settingsBytes(TUNNEL_DEVICE, ns, ns));
  onUntil(FOREVER_NS);
  const outbound = maps.load(outboundProgram(14), TCX_EGRESS);
  const inbound = maps.load(inboundProgram(), TCX_INGRESS);
  const run = (direction: 'outbound' | 'inbound', frame: Uint8Array) => {
    const before = maps.totals(direction);
    const result = bpf.testRun(direction === 'outbound' ? outbound : inbound, frame);
    const cells = maps.totals(direction).map((value, i) => value - before[i]!);
    const reason = reasonsOf(direction).find((_, i) => cells[CELL_FIRST_REASON + i] === 1);
    return { ...result, reason, cells };
  };
  return {
    tables,
    onUntil,
    outbound: (packet: Uint8Array) => run('outbound', framed(packet)),
    inbound: (frame: Uint8Array) => run('inbound', frame),
    close() {
      for (const program of [outbound, inbound]) systemCalls().close(program);
      maps.close();
    },
  };
}

/** The longest prefix by trying all. */
function longest<T extends { prefix: Prefix }>(rows: readonly T[], address: number): T | undefined {
  return rows
    .filter((row) => prefixContains(row.prefix, ipv4FromNumber(address)))
    .sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

export function twinTables(config: ForwardingConfig): { outbound: OutboundTables; inbound: InboundTables } {
  const ours = [config.outerSource, ...(config.localAddresses ?? [])];
  const single = (hops: readonly Ipv4[] | string | undefined) =>
    typeof hops === 'object' && hops.length === 1 && !ours.includes(hops[0]!) ? hops[0]! : null;
  return {
    outbound: {
      on: true,
      frozen: false,
      source: config.outerSource ?? 0,
      device: TUNNEL_DEVICE,
      route: (destination) => single(longest(config.entries, destination)?.nextHops),
      peer: (address) => {
        const peer = config.peers.find((p) => p.address === address);
        if (!peer) return null;
        return peer.transport === 'ipip' ? { mtu: peer.mtu, device: UNDERLAY_DEVICE } : { mtu: 0, device: 0 };
      },
    },
    inbound: {
      on: true,
      frozen: false,
      isLocal: (address) => (config.localAddresses ?? []).some((own) => own === address),
      isPeer: (address) => config.peers.some((peer) => peer.address === address),
      owner: (innerSource) => {
        const owners = longest(config.sources, innerSource)?.owners;
        if (owners === 'any-peer') return owners;
        return typeof owners === 'object' && owners.length === 1 ? owners[0]! : null;
      },
    },
  };
}
