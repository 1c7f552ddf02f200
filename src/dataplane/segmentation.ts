/**
 * A superpacket of the TUN (TSO, USO: up to 64 KB with one header) as the packets that its sender would have
 * sent: the headers of each are written anew, the payload stays where it is and is referred to.
 *
 *     const count = segmenter.begin(offset, length, gsoType, gsoSize);
 *     for (let i = 0; i < count; i++) {
 *       segmenter.writeHeaders(blob);          // the next segment's IP and transport header, checksums complete
 *       … {blob, segmenter.headerBytes} and {segmenter.payloadOffset, segmenter.payloadBytes} …
 *     }
 *
 * What differs between segments (kernel: inet_gso_segment, tcp_gso_segment, __udp_gso_segment): total length,
 * id + 1 each, sequence number, FIN and PSH only on the last, CWR only on the first (RFC 3168 §6.1.2), the
 * UDP length, checksums. Sums of what stays the same are taken once, in `begin`.
 */
import { readI32, readU16 } from '../wire/bytes.ts';
import { fold, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import {
  IPV4_MIN_HEADER_BYTES,
  IPV4_OFF_CHECKSUM,
  IPV4_OFF_ID,
  IPV4_OFF_TOTAL_LENGTH,
  ipv4Destination,
  ipv4HeaderBytes,
  ipv4Id,
  ipv4IsFragment,
  ipv4Protocol,
  ipv4Source,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from '../wire/ipv4.ts';
import {
  checkTcp,
  TCP_CWR,
  TCP_FIN,
  TCP_OFF_CHECKSUM,
  TCP_OFF_FLAGS,
  TCP_OFF_SEQUENCE,
  TCP_PSH,
  tcpHeaderBytes,
} from '../wire/tcp.ts';
import { UDP_HEADER_BYTES, UDP_OFF_CHECKSUM, UDP_OFF_LENGTH } from '../wire/udp.ts';
import { GSO_ECN, GSO_TCPV4, GSO_UDP_L4 } from '../wire/virtio-net-header.ts';

/** Sums bytes of the arena: folded, not complemented. WebAssembly does it faster than the loop of wire/checksum. */
export type SumBytes = (offset: number, length: number, initial: number) => number;

/** The longest headers that `writeHeaders` writes: both IPv4 and TCP with all their options. */
export const MAX_SEGMENT_HEADER_BYTES = 120;

export class Segmenter {
  readonly #view: Uint8Array;
  /** The same bytes, for reading and writing several of them in one go. */
  readonly #words: DataView;
  readonly #sum: SumBytes;
  #packet = 0;
  #end = 0;
  #ipBytes = 0;
  #gsoSize = 0;
  #index = 0;
  #tcp = false;
  #id = 0;
  #sequence = 0;
  /** Sum of the IP header but its total length, id and checksum. */
  #ipSum = 0;
  /** Sum of addresses, protocol and transport header but its lengths, sequence number and checksum. */
  #transportSum = 0;
  /** Of the segment that `writeHeaders` wrote last. */
  headerBytes = 0;
  payloadOffset = 0;
  payloadBytes = 0;

  constructor(
    view: Uint8Array,
    sum: SumBytes = (offset, length, initial) => sumBytes(view, offset, length, initial),
  ) {
    this.#view = view;
    this.#words = new DataView(view.buffer, view.byteOffset, view.length);
    this.#sum = sum;
  }

  /**
   * Takes the superpacket of `length` bytes at `packet`; returns how many segments it is, 0 where it is none
   * that we understand (the caller drops it). Header lengths come from the headers: virtio's are hints.
   */
  begin(packet: number, length: number, gsoType: number, gsoSize: number): number {
    const view = this.#view;
    const type = gsoType & ~GSO_ECN;
    const protocol = type === GSO_TCPV4 ? PROTOCOL_TCP : type === GSO_UDP_L4 ? PROTOCOL_UDP : 0;
    if (protocol === 0 || gsoSize === 0 || length < IPV4_MIN_HEADER_BYTES) return 0;
    const ipBytes = ipv4HeaderBytes(view, packet);
    if (view[packet]! >>> 4 !== 4 || ipBytes < IPV4_MIN_HEADER_BYTES || ipBytes > length) return 0;
    if (ipv4Protocol(view, packet) !== protocol || ipv4IsFragment(view, packet)) return 0;
    const transport = packet + ipBytes;
    const tcp = protocol === PROTOCOL_TCP;
    if (tcp ? !checkTcp(view, transport, length - ipBytes) : length - ipBytes < UDP_HEADER_BYTES) return 0;
    this.headerBytes = ipBytes + (tcp ? tcpHeaderBytes(view, transport) : UDP_HEADER_BYTES);
    this.#packet = packet;
    this.#end = packet + length;
    this.#ipBytes = ipBytes;
    this.#gsoSize = gsoSize;
    this.#index = 0;
    this.#tcp = tcp;
    this.#id = ipv4Id(view, packet);
    this.payloadOffset = packet + this.headerBytes;
    this.payloadBytes = 0;
    this.#sumConstants(transport, protocol);
    return Math.max(1, Math.ceil((length - this.headerBytes) / gsoSize));
  }

  /** Subtracting a word from a one's complement sum is adding its complement. */
  #sumConstants(transport: number, protocol: number): void {
    const view = this.#view;
    const packet = this.#packet;
    this.#ipSum = fold(
      sumBytes(view, packet, this.#ipBytes, 0) +
        (~readU16(view, packet + IPV4_OFF_TOTAL_LENGTH) & 0xffff) +
        (~readU16(view, packet + IPV4_OFF_ID) & 0xffff) +
        (~readU16(view, packet + IPV4_OFF_CHECKSUM) & 0xffff),
    );
    const pseudo = pseudoHeaderSum(ipv4Source(view, packet), ipv4Destination(view, packet), protocol, 0);
    const headers = sumBytes(view, transport, this.headerBytes - this.#ipBytes, pseudo);
    if (this.#tcp) {
      this.#sequence = readI32(view, transport + TCP_OFF_SEQUENCE);
      this.#transportSum = fold(
        headers +
          (~readU16(view, transport + TCP_OFF_SEQUENCE) & 0xffff) +
          (~readU16(view, transport + TCP_OFF_SEQUENCE + 2) & 0xffff) +
          (~view[transport + TCP_OFF_FLAGS]! & 0xffff) +
          (~readU16(view, transport + TCP_OFF_CHECKSUM) & 0xffff),
      );
    } else {
      this.#transportSum = fold(
        headers +
          (~readU16(view, transport + UDP_OFF_LENGTH) & 0xffff) +
          (~readU16(view, transport + UDP_OFF_CHECKSUM) & 0xffff),
      );
    }
  }

  /** Of the segment that `writeHeaders` will write next. */
  get nextPayloadBytes(): number {
    return Math.min(this.#gsoSize, this.#end - this.payloadOffset - this.payloadBytes);
  }

  /** Writes the headers of the next segment at `target` and moves `payloadOffset` and `payloadBytes` to its payload. */
  writeHeaders(target: number): void {
    const words = this.#words;
    const packet = this.#packet;
    const headerBytes = this.headerBytes;
    this.payloadOffset += this.payloadBytes;
    this.payloadBytes = Math.min(this.#gsoSize, this.#end - this.payloadOffset);
    // Headers are whole words. The order of bytes within one does not matter here.
    for (let i = 0; i < headerBytes; i += 4)
      words.setInt32(target + i, words.getInt32(packet + i, true), true);
    this.#writeIp(target, headerBytes + this.payloadBytes);
    if (this.#tcp) this.#writeTcp(target + this.#ipBytes);
    else this.#writeUdp(target + this.#ipBytes);
    this.#index += 1;
  }

  #writeIp(target: number, totalLength: number): void {
    const words = this.#words;
    const id = (this.#id + this.#index) & 0xffff;
    words.setInt16(target + IPV4_OFF_TOTAL_LENGTH, totalLength);
    words.setInt16(target + IPV4_OFF_ID, id);
    words.setInt16(target + IPV4_OFF_CHECKSUM, ~fold(this.#ipSum + totalLength + id));
  }

  #writeTcp(tcp: number): void {
    const view = this.#view;
    const words = this.#words;
    const sequence = (this.#sequence + this.#index * this.#gsoSize) | 0;
    let flags = view[tcp + TCP_OFF_FLAGS]!;
    if (this.#index > 0) flags &= ~TCP_CWR;
    if (this.payloadOffset + this.payloadBytes < this.#end) flags &= ~(TCP_FIN | TCP_PSH);
    words.setInt32(tcp + TCP_OFF_SEQUENCE, sequence);
    view[tcp + TCP_OFF_FLAGS] = flags;
    const constant =
      this.#transportSum +
      (sequence >>> 16) +
      (sequence & 0xffff) +
      flags +
      (this.headerBytes - this.#ipBytes + this.payloadBytes);
    words.setInt16(tcp + TCP_OFF_CHECKSUM, ~this.#sum(this.payloadOffset, this.payloadBytes, fold(constant)));
  }

  #writeUdp(udp: number): void {
    const words = this.#words;
    const datagramBytes = UDP_HEADER_BYTES + this.payloadBytes;
    words.setInt16(udp + UDP_OFF_LENGTH, datagramBytes);
    // The length counts twice: in the header and in the pseudo-header.
    const constant = fold(this.#transportSum + 2 * datagramBytes);
    const check = ~this.#sum(this.payloadOffset, this.payloadBytes, constant) & 0xffff;
    // RFC 768: 0 means "none", so a sum that comes out as 0 is sent as its other form.
    words.setInt16(udp + UDP_OFF_CHECKSUM, check === 0 ? 0xffff : check);
  }
}
