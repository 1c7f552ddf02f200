/**
 * Echo requests and UDP datagrams from inside a namespace, without `ping`: one raw ICMP socket that sends to
 * anybody and collects what comes back, read without blocking.
 */
import { type Ipv4, ipv4FromNumber } from '../ip/ipv4.ts';
import { readU16, readU32, writeU16 } from '../wire/bytes.ts';
import { checksum } from '../wire/checksum.ts';
import {
  IPV4_MIN_HEADER_BYTES,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4Source,
  PROTOCOL_ICMP,
} from '../wire/ipv4.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { inNetworkNamespace } from './netns.ts';
import {
  AF_INET,
  IPPROTO_ICMP,
  MSG_DONTWAIT,
  openSocket,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOCK_RAW,
  SOL_SOCKET,
  setIntegerOption,
  socketAddress,
} from './socket-options.ts';

const ICMP_HEADER_BYTES = 8;
const ICMP_ECHO_REPLY = 0;
const ICMP_ECHO_REQUEST = 8;

/** An answer: an echo reply, or an ICMP error that quotes one of our requests. */
export interface ProbeAnswer {
  readonly kind: 'reply' | 'error';
  /** Who sent the answer. */
  readonly from: Ipv4;
  /** Whom the request was meant for. */
  readonly destination: Ipv4;
  readonly type: number;
  readonly code: number;
  readonly identifier: number;
  readonly sequence: number;
  /** The MTU that a "fragmentation needed" names, else 0. */
  readonly nextHopMtu: number;
  /** Nanoseconds since the epoch. */
  readonly timestampNs: bigint;
}

export interface Probe {
  /** Sends one echo request; false where the kernel refuses it at once (no route, a firewall). */
  sendEcho(destination: Ipv4, identifier: number, sequence: number, payload?: Uint8Array): boolean;
  /** Sends one datagram from a port of the kernel's choice; false where it is refused at once. */
  sendUdp(destination: Ipv4, port: number, payload: Uint8Array): boolean;
  /** The answers that arrived since the last call; echo requests of others are not among them. */
  read(): ProbeAnswer[];
  close(): void;
}

/** Opens a probe in the network namespace at `netnsPath`, or in our own. Needs CAP_NET_RAW there. */
export function openProbe(options: { netnsPath?: string }): Probe {
  const open = () => ({
    icmp: openSocket(AF_INET, SOCK_RAW, IPPROTO_ICMP, 'a raw ICMP socket'),
    udp: openSocket(AF_INET, SOCK_DGRAM, 0, 'a UDP socket'),
  });
  const sockets = options.netnsPath === undefined ? open() : inNetworkNamespace(options.netnsPath, open);
  setIntegerOption(sockets.icmp, SOL_SOCKET, SO_TIMESTAMPNS, 1, 'asking for timestamps');
  const buffer = new MessageBuffer();
  return {
    sendEcho: (destination, identifier, sequence, payload = new Uint8Array(0)) =>
      send(sockets.icmp, echoRequest(identifier, sequence, payload), socketAddress(destination)),
    sendUdp: (destination, port, payload) => send(sockets.udp, payload, socketAddress(destination, port)),
    read: () => readAnswers(sockets.icmp, buffer),
    close: () => {
      systemCalls().close(sockets.icmp);
      systemCalls().close(sockets.udp);
    },
  };
}

function send(fd: number, data: Uint8Array, address: Uint8Array): boolean {
  return systemCalls().sendto(fd, data, data.length, MSG_DONTWAIT, address, address.length) === data.length;
}

function echoRequest(identifier: number, sequence: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(ICMP_HEADER_BYTES + payload.length);
  message[0] = ICMP_ECHO_REQUEST;
  writeU16(message, 4, identifier);
  writeU16(message, 6, sequence);
  message.set(payload, ICMP_HEADER_BYTES);
  writeU16(message, 2, checksum(message, 0, message.length));
  return message;
}

function readAnswers(fd: number, buffer: MessageBuffer): ProbeAnswer[] {
  const answers: ProbeAnswer[] = [];
  for (;;) {
    const length = buffer.receive(fd, 'the raw ICMP socket');
    if (length < 0) return answers;
    const answer = decodeAnswer(buffer.arena.bytes, buffer.data, length, buffer.timestampNs() ?? 0n);
    if (answer) answers.push(answer);
  }
}

function decodeAnswer(
  bytes: Uint8Array,
  offset: number,
  length: number,
  timestampNs: bigint,
): ProbeAnswer | undefined {
  const icmp = offset + ipv4HeaderBytes(bytes, offset);
  if (icmp + ICMP_HEADER_BYTES > offset + length) return undefined;
  const from = ipv4FromNumber(ipv4Source(bytes, offset));
  const type = bytes[icmp]!;
  const code = bytes[icmp + 1]!;
  if (type === ICMP_ECHO_REPLY)
    return {
      kind: 'reply',
      from,
      destination: from,
      type,
      code,
      identifier: readU16(bytes, icmp + 4),
      sequence: readU16(bytes, icmp + 6),
      nextHopMtu: 0,
      timestampNs,
    };
  const quoted = icmp + ICMP_HEADER_BYTES;
  if (type === ICMP_ECHO_REQUEST || quoted + IPV4_MIN_HEADER_BYTES > offset + length) return undefined;
  const request = quoted + ipv4HeaderBytes(bytes, quoted);
  if (request + ICMP_HEADER_BYTES > offset + length || bytes[request] !== ICMP_ECHO_REQUEST) return undefined;
  if (bytes[quoted + 9] !== PROTOCOL_ICMP) return undefined;
  return {
    kind: 'error',
    from,
    destination: ipv4FromNumber(ipv4Destination(bytes, quoted)),
    type,
    code,
    identifier: readU16(bytes, request + 4),
    sequence: readU16(bytes, request + 6),
    nextHopMtu: type === 3 && code === 4 ? readU32(bytes, icmp + 4) & 0xffff : 0,
    timestampNs,
  };
}
