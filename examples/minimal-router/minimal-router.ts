/**
 * IP-in-IP (RFC 2003) in one file: what Tortie is about, without what makes it fast, safe or obedient to
 * Calico. README.md beside it walks through it.
 *
 *   outbound:  kernel route ─► TUN ─► which peer? ─► raw socket, IP protocol 4 ─► underlay
 *   inbound:   underlay ─► raw socket ─► from that peer? ─► strip the outer header ─► TUN ─► kernel
 *
 * Usage: minimal-router DEVICE PREFIX=PEER [PREFIX=PEER …]
 *        minimal-router tun0 192.168.2.0/24=10.0.0.2
 */
import { openSync, read, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isIPv4 } from 'node:net';
import { promisify } from 'node:util';

// ── The two things that Node has no word for: one ioctl, and sockets that speak a protocol of their own ──

interface RawSocket {
  send(packet: Buffer, offset: number, length: number, to: string, done: (error: Error | null) => void): void;
  on(event: 'message', listener: (packet: Buffer, from: string) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
}
type RawSocketModule = {
  createSocket(options: { protocol: number; bufferSize: number }): RawSocket;
};

const require = createRequire(import.meta.url);
const raw: RawSocketModule = require('raw-socket');
const koffi: typeof import('koffi') = require('koffi');

const IPPROTO_IPIP = 4; // "IPv4 encapsulation", the protocol number in the outer header
const MAX_PACKET_BYTES = 65_535;

// linux/if_tun.h: the ioctl that turns an open /dev/net/tun into one end of a network device.
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001; // packets, not Ethernet frames
const IFF_NO_PI = 0x1000; // nothing in front of the packet
const IFREQ_BYTES = 40; // struct ifreq: 16 bytes of name, then a union that begins with the flags
const IFREQ_OFF_FLAGS = 16;

/** Attaches to the TUN device of that name; from here on read() takes one packet, write() gives one. */
function openTun(device: string): number {
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int, unsigned long, void *)');
  const fd = openSync('/dev/net/tun', 'r+');
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(device, 'latin1');
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI, IFREQ_OFF_FLAGS);
  if (ioctl(fd, TUNSETIFF, request) !== 0) {
    throw new Error(
      `cannot attach to ${device}: errno ${koffi.errno()}; is it a TUN device, free, and are you root?`,
    );
  }
  return fd;
}

// ── The peer table: which node has which prefix ──

interface Peer {
  prefix: number; // the network's address as an unsigned 32-bit integer
  mask: number;
  address: string; // of the node, on the underlay
}

function addressFrom(text: string): number {
  if (!isIPv4(text)) throw new Error(`expected an IPv4 address, got "${text}"`);
  return Buffer.from(text.split('.').map(Number)).readUInt32BE();
}

/** `192.168.2.0/24=10.0.0.2` */
function peerFrom(text: string): Peer {
  const [, network = '', length = '', address = ''] = /^([^/]+)\/(\d+)=(.+)$/.exec(text) ?? [];
  if (!isIPv4(address) || Number(length) > 32) throw new Error(`expected PREFIX/LENGTH=PEER, got "${text}"`);
  // In JavaScript x << 32 is x << 0, so the mask of /0 needs a case of its own.
  const mask = Number(length) === 0 ? 0 : (0xffffffff << (32 - Number(length))) >>> 0;
  return { prefix: (addressFrom(network) & mask) >>> 0, mask, address };
}

/** The peer whose prefix holds the address; of several the one with the longest prefix. */
function lookup(peers: readonly Peer[], address: number): Peer | undefined {
  let best: Peer | undefined;
  for (const peer of peers) {
    const holds = (address & peer.mask) >>> 0 === peer.prefix;
    if (holds && (!best || peer.mask > best.mask)) best = peer;
  }
  return best;
}

// ── IPv4 headers: only what is needed (RFC 791 §3.1) ──

const IPV4_OFF_SRC = 12;
const IPV4_OFF_DST = 16;
const IPV4_MIN_HEADER_BYTES = 20;

/** Bytes of header of the IPv4 packet at `offset`; 0 where there is none (the TUN also emits IPv6). */
function headerBytes(packet: Buffer, offset: number): number {
  if (packet.length < offset + IPV4_MIN_HEADER_BYTES) return 0;
  const first = packet[offset] ?? 0;
  const bytes = (first & 0x0f) * 4;
  return first >> 4 === 4 && bytes >= IPV4_MIN_HEADER_BYTES ? bytes : 0;
}

// ── The router ──

/** Every packet that does not pass is counted under a reason; none of them throws. */
const counters = {
  outbound_encapsulated: 0,
  outbound_drop_not_ipv4: 0,
  outbound_drop_no_route: 0,
  outbound_drop_send_failed: 0,
  inbound_decapsulated: 0,
  inbound_drop_malformed: 0,
  inbound_drop_unknown_peer: 0,
  inbound_drop_spoofed_source: 0,
};

const readPacket = promisify(read);

async function outbound(tun: number, socket: RawSocket, peers: readonly Peer[]): Promise<never> {
  for (;;) {
    // A fresh buffer each time, because raw-socket sends it later. Tortie's hot path allocates nothing.
    const { bytesRead, buffer } = await readPacket(
      tun,
      Buffer.alloc(MAX_PACKET_BYTES),
      0,
      MAX_PACKET_BYTES,
      null,
    );
    const inner = buffer.subarray(0, bytesRead);
    if (!headerBytes(inner, 0)) {
      counters.outbound_drop_not_ipv4++;
      continue;
    }
    const peer = lookup(peers, inner.readUInt32BE(IPV4_OFF_DST));
    if (!peer) {
      counters.outbound_drop_no_route++;
      continue;
    }
    // The kernel writes the outer header: protocol 4, our address, the peer's, TTL 64.
    socket.send(inner, 0, inner.length, peer.address, (error) => {
      if (error) counters.outbound_drop_send_failed++;
      else counters.outbound_encapsulated++;
    });
  }
}

function inbound(tun: number, peers: readonly Peer[], outer: Buffer, outerSource: string): void {
  const offset = headerBytes(outer, 0);
  if (!offset || !headerBytes(outer, offset)) {
    counters.inbound_drop_malformed++;
    return;
  }
  if (!peers.some((peer) => peer.address === outerSource)) {
    counters.inbound_drop_unknown_peer++;
    return;
  }
  // A peer speaks for its own prefixes only; otherwise anybody could send as anybody through a tunnel.
  if (lookup(peers, outer.readUInt32BE(offset + IPV4_OFF_SRC))?.address !== outerSource) {
    counters.inbound_drop_spoofed_source++;
    return;
  }
  writeSync(tun, outer, offset);
  counters.inbound_decapsulated++;
}

async function main(device: string | undefined, ...peerWords: string[]): Promise<void> {
  if (!device || peerWords.length === 0) throw new Error('Usage: minimal-router DEVICE PREFIX=PEER …');
  const peers = peerWords.map(peerFrom);
  const tun = openTun(device);
  const socket = raw.createSocket({ protocol: IPPROTO_IPIP, bufferSize: MAX_PACKET_BYTES });
  socket.on('message', (packet, from) => inbound(tun, peers, packet, from));
  socket.on('error', (error) => console.error(`raw socket: ${error.message}`));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      console.log(JSON.stringify(counters, null, 2));
      process.exit(0); // a read() of the TUN is still waiting in a thread
    });
  }
  console.log(
    `forwarding between ${device} and ${peers.length} peer(s); Ctrl-C ends it and prints the counters`,
  );
  await outbound(tun, socket, peers);
}

main(...(process.argv.slice(2) as [string?, ...string[]])).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
