/**
 * Which packets plainly continue a run: those of a stream are alike but for lengths, id, sequence number and checksums, and
 * by the `udp` transport they lie one behind another. So what they are compared with is read once for all of a size, and each
 * costs a dozen comparisons of words, and its sum. What is not plain to see (options of IP, a new acknowledgement, CWR)
 * is the coalescer's own to judge, by the same rules.
 */
import { fold, pseudoHeaderSum } from '../wire/checksum.ts';
import {
  IPV4_DF,
  IPV4_MIN_HEADER_BYTES,
  IPV4_OFF_DESTINATION,
  IPV4_OFF_ID,
  IPV4_OFF_SOURCE,
  IPV4_OFF_TTL,
  PROTOCOL_TCP,
} from '../wire/ipv4.ts';
import {
  TCP_CWR,
  TCP_FIN,
  TCP_MIN_HEADER_BYTES,
  TCP_OFF_ACKNOWLEDGEMENT,
  TCP_OFF_CHECKSUM,
  TCP_OFF_DATA_OFFSET,
  TCP_OFF_SEQUENCE,
  TCP_PSH,
} from '../wire/tcp.ts';
import { UDP_OFF_CHECKSUM, UDP_OFF_LENGTH } from '../wire/udp.ts';
import {
  CHECKSUM_PARTIAL,
  NO_RUN,
  RUN_CHECKSUM_STATE,
  RUN_CONSTANT_ID,
  RUN_HEADER_BYTES,
  RUN_NEXT_SEQUENCE,
  RUN_OFFSET,
  RUN_PACKETS,
  RUN_PORTS,
  RUN_PROTOCOL,
} from './coalesced-run.ts';
import type { SumBytes } from './segmentation.ts';

/** The 32-bit word at TCP_OFF_DATA_OFFSET without CWR, FIN and PSH: header length, other flags and window. */
export const TCP_WORD_MASK = ~((TCP_CWR | TCP_FIN | TCP_PSH) << 16);
/** Where the transport header begins: no packet here has options of IP. */
const TRANSPORT = IPV4_MIN_HEADER_BYTES;

export class RunContinuation {
  readonly #words: DataView;
  readonly #sum: SumBytes;
  /** FIN and PSH of the packets that `count` counted last. */
  addedFlags = 0;
  /** Whose first packet the rest is of, and for packets of which length. */
  #run = NO_RUN;
  #length = 0;
  #first = 0;
  #headerBytes = 0;
  #isTcp = false;
  #checksum = 0;
  #start = 0;
  #ids = 0;
  #ttls = 0;
  /** Of those halves of the IP header that differ between packets, its checksum among them. */
  #sumOfVarying = 0;
  #source = 0;
  #destination = 0;
  #ports = 0;
  #acknowledgement = 0;
  #flags = 0;
  #pseudoSum = 0;

  constructor(words: DataView, sum: SumBytes) {
    this.#words = words;
    this.#sum = sum;
  }

  /** To be called when the records are used again. */
  forget(): void {
    this.#run = NO_RUN;
  }

  /**
   * How many packets of `length` bytes, the first at `offset` and each behind the one before, `most` at most, continue the
   * run. Their checksums are right then; the run's first packet's is not looked at.
   */
  count(runs: Int32Array, run: number, offset: number, length: number, most: number): number {
    if (run !== this.#run || length !== this.#length) this.#learn(runs, run, length);
    const payloadBytes = length - this.#headerBytes;
    let packets = runs[run + RUN_PACKETS]!;
    let sequence = runs[run + RUN_NEXT_SEQUENCE]!;
    let counted = 0;
    this.addedFlags = 0;
    for (let at = offset; counted < most && this.addedFlags === 0; at += length) {
      if (!this.#continuesIp(at, runs, run, packets)) break;
      if (this.#isTcp ? !this.#continuesTcp(at, sequence) : !this.#continuesUdp(at)) break;
      if (!this.#isWhole(at, runs, run)) break;
      if (this.#isTcp) this.addedFlags = this.#endingFlags(at);
      counted += 1;
      packets += 1;
      sequence = (sequence + payloadBytes) | 0;
    }
    return counted;
  }

  #learn(runs: Int32Array, run: number, length: number): void {
    const words = this.#words;
    const first = runs[run + RUN_OFFSET]!;
    const protocol = runs[run + RUN_PROTOCOL]!;
    this.#run = run;
    this.#length = length;
    this.#first = first;
    this.#headerBytes = runs[run + RUN_HEADER_BYTES]!;
    this.#isTcp = protocol === PROTOCOL_TCP;
    this.#checksum = TRANSPORT + (this.#isTcp ? TCP_OFF_CHECKSUM : UDP_OFF_CHECKSUM);
    this.#start = words.getInt32(first);
    this.#ids = words.getInt32(first + IPV4_OFF_ID);
    this.#ttls = words.getInt32(first + IPV4_OFF_TTL);
    this.#sumOfVarying = fold((this.#start & 0xffff) + (this.#ids >>> 16) + (this.#ttls & 0xffff));
    this.#source = words.getInt32(first + IPV4_OFF_SOURCE);
    this.#destination = words.getInt32(first + IPV4_OFF_DESTINATION);
    this.#ports = runs[run + RUN_PORTS]!;
    this.#pseudoSum = pseudoHeaderSum(this.#source, this.#destination, protocol, length - TRANSPORT);
    if (!this.#isTcp) return;
    this.#acknowledgement = words.getInt32(first + TRANSPORT + TCP_OFF_ACKNOWLEDGEMENT);
    this.#flags = words.getInt32(first + TRANSPORT + TCP_OFF_DATA_OFFSET);
  }

  /** Its IPv4 header and ports are the run's, with the next id and a right checksum. */
  #continuesIp(at: number, runs: Int32Array, run: number, packets: number): boolean {
    const words = this.#words;
    const start = words.getInt32(at);
    const ids = words.getInt32(at + IPV4_OFF_ID);
    const ttls = words.getInt32(at + IPV4_OFF_TTL);
    if (
      (start ^ this.#start) >>> 16 !== 0 ||
      (start & 0xffff) !== this.#length ||
      ((ids ^ this.#ids) & 0xffff) !== 0 ||
      (ttls ^ this.#ttls) >>> 16 !== 0 ||
      words.getInt32(at + IPV4_OFF_SOURCE) !== this.#source ||
      words.getInt32(at + IPV4_OFF_DESTINATION) !== this.#destination ||
      words.getInt32(at + TRANSPORT) !== this.#ports
    )
      return false;
    // The first one's checksum is right; this one's is, where what differs between them adds up to the same.
    if (fold((start & 0xffff) + (ids >>> 16) + (ttls & 0xffff)) !== this.#sumOfVarying) return false;
    return idContinues(runs, run, packets, (ids >>> 16) - (this.#ids >>> 16), ids);
  }

  #continuesTcp(at: number, sequence: number): boolean {
    const words = this.#words;
    const tcp = at + TRANSPORT;
    const flags = words.getInt32(tcp + TCP_OFF_DATA_OFFSET);
    const changes = (flags ^ this.#flags) & TCP_WORD_MASK;
    if (
      words.getInt32(tcp + TCP_OFF_SEQUENCE) !== sequence ||
      words.getInt32(tcp + TCP_OFF_ACKNOWLEDGEMENT) !== this.#acknowledgement ||
      ((flags & (TCP_CWR << 16)) | changes) !== 0
    )
      return false;
    const first = this.#first;
    const end = this.#headerBytes;
    for (let i = TRANSPORT + TCP_MIN_HEADER_BYTES; i < end; i += 4)
      if (words.getInt32(first + i) !== words.getInt32(at + i)) return false;
    return true;
  }

  #continuesUdp(at: number): boolean {
    const word = this.#words.getInt32(at + TRANSPORT + UDP_OFF_LENGTH);
    return word >>> 16 === this.#length - TRANSPORT && (word & 0xffff) !== 0;
  }

  #endingFlags(at: number): number {
    return (this.#words.getInt32(at + TRANSPORT + TCP_OFF_DATA_OFFSET) >>> 16) & (TCP_FIN | TCP_PSH);
  }

  #isWhole(at: number, runs: Int32Array, run: number): boolean {
    // As a kernel behind veth leaves a whole stream of its segments: there is nothing to sum then.
    if (
      runs[run + RUN_CHECKSUM_STATE] === CHECKSUM_PARTIAL &&
      (this.#words.getInt16(at + this.#checksum) & 0xffff) === this.#pseudoSum
    )
      return true;
    return this.#sum(at + TRANSPORT, this.#length - TRANSPORT, this.#pseudoSum) === 0xffff;
  }
}

/**
 * Whether an id that is `difference` further than the first packet's continues a run of `packets`: it counts up by one, or stays
 * the same where DF makes it void (RFC 6864); the second packet decides which. `fragment`: flags and fragment offset.
 */
export function idContinues(
  runs: Int32Array,
  run: number,
  packets: number,
  difference: number,
  fragment: number,
): boolean {
  const step = difference & 0xffff;
  if (packets === 1) runs[run + RUN_CONSTANT_ID] = step === 0 && (fragment & IPV4_DF) !== 0 ? 1 : 0;
  return step === (runs[run + RUN_CONSTANT_ID] === 1 ? 0 : packets);
}
