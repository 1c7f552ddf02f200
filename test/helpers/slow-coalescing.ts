/**
 * The slow twin of dataplane/coalescing: packets as objects, flows as text, each rule of the kernel's GRO a line.
 * What it returns are the bytes of each write to the TUN, with the virtio-net header in front.
 */
import { readU16 } from '../../src/wire/bytes.ts';
import { pseudoHeaderSum } from '../../src/wire/checksum.ts';
import { decodeFrame, type Ipv4Layer, type TcpLayer, type UdpLayer } from '../../src/wire/decode.ts';
import { ipv4Destination, ipv4Source } from '../../src/wire/ipv4.ts';
import { tcpPacket, udpPacket } from './packets.ts';

interface Packet {
  readonly bytes: Uint8Array;
  readonly ip: Ipv4Layer;
  readonly transport: TcpLayer | UdpLayer | undefined;
  readonly flow: string | undefined;
  readonly payload: readonly number[];
}

interface Run {
  readonly packets: Packet[];
  open: boolean;
}

export interface SlowOptions {
  readonly udp: boolean;
  readonly overlayMtu: number;
}

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const URG = 32;
const CWR = 128;

function parse(bytes: Uint8Array): Packet {
  const [ip, next, data] = decodeFrame(bytes, { link: 'ip', tunnelPorts: [] });
  if (ip?.kind !== 'ipv4') throw new Error('the twin was given no IPv4 packet');
  const fragment = ip.moreFragments || ip.fragmentOffset > 0;
  const transport = !fragment && (next?.kind === 'tcp' || next?.kind === 'udp') ? next : undefined;
  const flow =
    transport &&
    [ip.source, ip.destination, ip.protocol, transport.sourcePort, transport.destinationPort].join();
  const payload = transport && data ? [...bytes.slice(data.offset, data.offset + data.length)] : [];
  return { bytes, ip, transport, flow, payload };
}

function mayMerge({ bytes, ip, transport, payload }: Packet, options: SlowOptions): boolean {
  if (transport === undefined || ip.length !== 20 || payload.length === 0) return false;
  if (bytes.length > options.overlayMtu) return false;
  if (transport.kind === 'tcp') return true;
  return options.udp && transport.datagramLength === bytes.length - 20 && transport.checksum !== 'none';
}

function mayBegin(packet: Packet): boolean {
  return (
    packet.transport?.kind === 'udp' || ((packet.transport?.flags ?? 0) & (FIN | SYN | RST | PSH | URG)) === 0
  );
}

function trusted(packet: Packet): boolean {
  return packet.transport?.checksum === 'ok' || packet.transport?.checksum === 'partial';
}

function checksumField(transport: TcpLayer | UdpLayer): number {
  return transport.kind === 'tcp' ? 16 : 6;
}

/**
 * The field holds the pseudo-header's sum: a partial checksum, or one complete one in 65,536, which nobody can
 * tell from it by the field, and which finishing leaves as it is.
 */
function looksPartial({ bytes, ip, transport }: Packet): boolean {
  if (transport === undefined) return false;
  const pseudo = pseudoHeaderSum(
    ipv4Source(bytes, 0),
    ipv4Destination(bytes, 0),
    ip.protocol,
    bytes.length - ip.length,
  );
  return readU16(bytes, ip.length + checksumField(transport)) === pseudo;
}

/** Everything of the packet that must not differ within a run, as text. */
function shape({ bytes, ip, transport }: Packet): string {
  const common = [ip.tos, ip.ttl, bytes[6]];
  if (transport?.kind !== 'tcp') return common.join();
  const options = bytes.slice(ip.length + 20, ip.length + transport.length);
  const flags = transport.flags & ~(FIN | PSH | CWR);
  const reserved = bytes[ip.length + 12];
  return [...common, transport.acknowledgement, transport.window, flags, reserved, ...options].join();
}

function idsFit(run: Run, packet: Packet): boolean {
  const ids = [...run.packets, packet].map(({ ip }) => ip.id);
  const counting = ids.every((id, i) => id === (ids[0]! + i) % 65_536);
  const constant = packet.ip.dontFragment && ids.every((id) => id === ids[0]);
  return counting || constant;
}

function follows(run: Run, packet: Packet): boolean {
  const first = run.packets[0]!;
  const segment = first.payload.length;
  const merged = run.packets.reduce((sum, { payload }) => sum + payload.length, 0);
  const headers = first.bytes.length - segment;
  if (shape(first) !== shape(packet) || !idsFit(run, packet)) return false;
  if (packet.payload.length > segment || headers + merged + packet.payload.length > 65_535) return false;
  if (first.transport?.kind === 'tcp' && packet.transport?.kind === 'tcp') {
    if (packet.transport.sequence !== (first.transport.sequence + merged) % 2 ** 32) return false;
    if ((packet.transport.flags & CWR) !== 0) return false;
  }
  return trusted(first) && trusted(packet);
}

function endsRun(run: Run, packet: Packet): boolean {
  if (packet.payload.length < run.packets[0]!.payload.length) return true;
  if (packet.transport?.kind === 'udp') return run.packets.length === 64;
  return ((packet.transport?.flags ?? 0) & (FIN | PSH)) !== 0;
}

function le16(value: number): number[] {
  return [value % 256, Math.floor(value / 256)];
}

function write(run: Run, options: SlowOptions): Uint8Array {
  const first = run.packets[0]!;
  const { bytes, ip, transport, payload } = first;
  const field = transport ? checksumField(transport) : 0;
  const headers = ip.length + (transport?.length ?? 0);
  const vnet = (gsoType: number, gsoSize: number) =>
    [1, gsoType, headers, gsoSize, ip.length, field].flatMap((value, i) => (i < 2 ? [value] : le16(value)));
  if (run.packets.length === 1) {
    if (transport === undefined || !looksPartial(first))
      return Uint8Array.from([...new Array(10).fill(0), ...bytes]);
    const whole = transport.kind === 'tcp' && bytes.length > options.overlayMtu;
    const cwr = transport.kind === 'tcp' && (transport.flags & CWR) !== 0 ? 0x80 : 0;
    return Uint8Array.from([...(whole ? vnet(1 + cwr, options.overlayMtu - headers) : vnet(0, 0)), ...bytes]);
  }
  const all = run.packets.flatMap((packet) => packet.payload);
  const fields = {
    tos: ip.tos,
    ttl: ip.ttl,
    id: ip.id,
    fragment: bytes[6]! * 256,
    source: ip.source,
    destination: ip.destination,
    sourcePort: transport!.sourcePort,
    destinationPort: transport!.destinationPort,
  };
  if (transport?.kind !== 'tcp')
    return Uint8Array.from([...vnet(5, payload.length), ...udpPacket(all, fields, false)]);
  const flags = run.packets.reduce((sum, { transport: t }) => sum | (t?.kind === 'tcp' ? t.flags : 0), 0);
  const superpacket = tcpPacket(
    all,
    {
      ...fields,
      sequence: transport.sequence,
      acknowledgement: transport.acknowledgement,
      window: transport.window,
      flags,
      urgent: bytes[38]! * 256 + bytes[39]!,
      tcpOptions: [...bytes.slice(40, 20 + transport.length)],
    },
    false,
  );
  return Uint8Array.from([...vnet((flags & CWR) === 0 ? 1 : 0x81, payload.length), ...superpacket]);
}

export function slowCoalesce(packets: readonly Uint8Array[], options: SlowOptions): Uint8Array[] {
  const runs: Run[] = [];
  for (const packet of packets.map(parse)) {
    const flow = packet.flow;
    const newest = flow === undefined ? undefined : runs.findLast((run) => run.packets[0]!.flow === flow);
    const fits = mayMerge(packet, options);
    if (newest?.open && fits && follows(newest, packet)) {
      newest.packets.push(packet);
      if (endsRun(newest, packet)) newest.open = false;
      continue;
    }
    if (newest) newest.open = false;
    runs.push({ packets: [packet], open: fits && mayBegin(packet) });
  }
  return runs.map((run) => write(run, options));
}
