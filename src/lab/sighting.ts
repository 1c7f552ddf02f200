/**
 * One captured frame, read as what `verify` sent: echo requests or answers that carry our token, plain or
 * inside another IPv4 header. Anything else is somebody else's traffic. Pure.
 */
import { type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { readU16, readU32, writeU16, writeU32 } from '../wire/bytes.ts';
import { ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, etherType } from '../wire/ethernet.ts';
import { ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER_BYTES } from '../wire/icmpv4.ts';
import {
  checkIpv4,
  IPV4_OFF_PROTOCOL,
  IPV4_OK,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4Source,
  ipv4TotalLength,
  PROTOCOL_ICMP,
  PROTOCOL_IPIP,
  PROTOCOL_UDP,
} from '../wire/ipv4.ts';

const UDP_HEADER_BYTES = 8;

/** "TORT": begins every payload of ours, so that other people's echo requests are not taken for it. */
const MAGIC = 0x544f5254;
export const TOKEN_BYTES = 16;

/** Which probe a packet is: of one round of one verify, for one flow, the how-manieth. */
export interface Token {
  /** Random per round. */
  readonly round: number;
  readonly flow: number;
  readonly sequence: number;
}

export interface Sighting {
  readonly token: Token;
  readonly kind: 'request' | 'reply';
  /** How the fabric had it. */
  readonly wrapping: 'none' | 'ipip' | 'udp';
  /** Of the echo itself: inner addresses where it is wrapped. */
  readonly source: Ipv4;
  readonly destination: Ipv4;
}

export function tokenPayload({ round, flow, sequence }: Token): Uint8Array {
  const payload = new Uint8Array(TOKEN_BYTES);
  writeU32(payload, 0, MAGIC);
  writeU32(payload, 4, round);
  writeU32(payload, 8, flow);
  writeU16(payload, 12, sequence);
  return payload;
}

/** None for what is not ours; several for a UDP superpacket, which a capture shows before it is segmented. */
export function readFrame(frame: Uint8Array): readonly Sighting[] {
  if (frame.length < ETHERNET_HEADER_BYTES || etherType(frame, 0) !== ETHERTYPE_IPV4) return [];
  return readPacket(frame, ETHERNET_HEADER_BYTES, frame.length, 'none');
}

function readPacket(
  frame: Uint8Array,
  offset: number,
  limit: number,
  wrapping: Sighting['wrapping'],
): readonly Sighting[] {
  if (checkIpv4(frame, offset, limit - offset) !== IPV4_OK) return [];
  const payload = offset + ipv4HeaderBytes(frame, offset);
  const end = offset + ipv4TotalLength(frame, offset);
  switch (frame[offset + IPV4_OFF_PROTOCOL]) {
    case PROTOCOL_ICMP:
      return readEcho(frame, offset, payload, end, wrapping);
    case PROTOCOL_IPIP:
      return wrapping === 'none' ? readPacket(frame, payload, end, 'ipip') : [];
    case PROTOCOL_UDP:
      // Any port: what is inside tells that it is ours.
      return wrapping === 'none' ? readDatagrams(frame, payload + UDP_HEADER_BYTES, end) : [];
    default:
      return [];
  }
}

/** The payloads of UDP_SEGMENT's datagrams stand in a row behind one header: inner packets tell their lengths. */
function readDatagrams(frame: Uint8Array, start: number, end: number): readonly Sighting[] {
  const sightings: Sighting[] = [];
  for (let offset = start; checkIpv4(frame, offset, end - offset) === IPV4_OK; ) {
    sightings.push(...readPacket(frame, offset, end, 'udp'));
    offset += ipv4TotalLength(frame, offset);
  }
  return sightings;
}

function readEcho(
  frame: Uint8Array,
  offset: number,
  icmp: number,
  end: number,
  wrapping: Sighting['wrapping'],
): readonly Sighting[] {
  const payload = icmp + ICMP_HEADER_BYTES;
  if (end - payload !== TOKEN_BYTES || readU32(frame, payload) !== MAGIC) return [];
  const type = frame[icmp];
  if (type !== ICMP_ECHO && type !== ICMP_ECHO_REPLY) return [];
  return [
    {
      token: {
        round: readU32(frame, payload + 4),
        flow: readU32(frame, payload + 8),
        sequence: readU16(frame, payload + 12),
      },
      kind: type === ICMP_ECHO ? 'request' : 'reply',
      wrapping,
      source: ipv4FromNumber(ipv4Source(frame, offset)),
      destination: ipv4FromNumber(ipv4Destination(frame, offset)),
    },
  ];
}
