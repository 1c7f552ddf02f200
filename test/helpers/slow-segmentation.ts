/** The slow twin of dataplane/segmentation: takes the superpacket's fields apart and builds each packet from nothing. */
import { decodeFrame } from '../../src/wire/decode.ts';
import { tcpPacket, udpPacket } from './packets.ts';

export function slowSegments(superpacket: Uint8Array, gsoSize: number): Uint8Array[] {
  const [ip, transport, data] = decodeFrame(superpacket, { link: 'ip', tunnelPorts: [] });
  if (ip?.kind !== 'ipv4' || (transport?.kind !== 'tcp' && transport?.kind !== 'udp'))
    throw new Error('the twin was given no TCP or UDP packet');
  const payload = data === undefined ? [] : [...superpacket.slice(data.offset, data.offset + data.length)];
  const segments: Uint8Array[] = [];
  for (let at = 0, i = 0; i === 0 || at < payload.length; at += gsoSize, i++) {
    const last = at + gsoSize >= payload.length;
    const common = {
      tos: ip.tos,
      ttl: ip.ttl,
      id: (ip.id + i) % 65_536,
      fragment: superpacket[6]! * 256, // DF and the reserved bit
      source: ip.source,
      destination: ip.destination,
      options: [...superpacket.slice(20, ip.length)],
      sourcePort: transport.sourcePort,
      destinationPort: transport.destinationPort,
    };
    const slice = payload.slice(at, at + gsoSize);
    if (transport.kind === 'udp') {
      segments.push(udpPacket(slice, common));
      continue;
    }
    const flags = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'].map((name, bit) => {
      const set = Math.floor(transport.flags / 2 ** bit) % 2 === 1;
      if (name === 'CWR') return set && i === 0;
      return name === 'FIN' || name === 'PSH' ? set && last : set;
    });
    segments.push(
      tcpPacket(slice, {
        ...common,
        sequence: (transport.sequence + at) % 2 ** 32,
        acknowledgement: transport.acknowledgement,
        flags: flags.reduce((sum, set, bit) => sum + (set ? 2 ** bit : 0), 0),
        window: transport.window,
        urgent: superpacket[ip.length + 18]! * 256 + superpacket[ip.length + 19]!,
        tcpOptions: [...superpacket.slice(ip.length + 20, ip.length + transport.length)],
      }),
    );
  }
  return segments;
}
