/** What both programs are made of: the kernel's numbers, and pieces of assembly. */
import { type Assembler, R0, R1, R2, R3, R4, R5, R6, R7, R9, R10, type Register } from './assembler.ts';
import { CELL_FIRST_REASON, type MapName, VALUE_SLOW } from './layout.ts';

/** Offsets in struct __sk_buff (<linux/bpf.h>). */
export const SKB_LENGTH = 0;
export const SKB_PACKET_TYPE = 4;
export const SKB_PROTOCOL = 16;
export const SKB_VLAN_PRESENT = 20;
export const SKB_GSO_SIZE = 176;

/** Helpers of the kernel, by number and name: `a.call(...HELPER)`. */
export const MAP_LOOKUP = [1, 'bpf_map_lookup_elem'] as const;
export const RANDOM = [7, 'bpf_get_prandom_u32'] as const;
export const STORE_BYTES = [9, 'bpf_skb_store_bytes'] as const;
export const L3_CHECKSUM_REPLACE = [10, 'bpf_l3_csum_replace'] as const;
export const REDIRECT = [23, 'bpf_redirect'] as const;
export const LOAD_BYTES = [26, 'bpf_skb_load_bytes'] as const;
export const CHANGE_HEAD = [43, 'bpf_skb_change_head'] as const;
export const ADJUST_ROOM = [50, 'bpf_skb_adjust_room'] as const;
export const REDIRECT_NEIGHBOUR = [152, 'bpf_redirect_neigh'] as const;

/** bpf_skb_adjust_room: room behind the link header; the segments keep their size; what is added is IPv4. */
export const ROOM_BEHIND_LINK_HEADER = 1;
export const KEEP_SEGMENT_SIZE = 1;
export const ADD_IPV4 = 2;

/** What a program returns to let the packet go on as if there were none (TCX_NEXT). */
export const GO_ON = -1;

/** ETH_P_IP as it lies in memory, read as a little-endian number. */
export const PROTOCOL_IPV4 = 0x0008;
export const ETHERNET_BYTES = 14;

/** Bits of the fragment word, MF and offset, and DF, as they lie in memory, read as a little-endian number. */
export const FRAGMENT_BITS = 0xff3f;
export const DF_BIT = 0x0040;

/** The stack, below R10: what both programs have there. 8-byte cells lie at multiples of 8. */
export const INNER = -24;
export const OUTER = -48;
const KEY = -56;
export const SEGMENT_BYTES = -64;
export const SEGMENTS = -72;
export const WIRE_BYTES = -80;
export const IS_SUPERPACKET = -88;
const SCRATCH = -96;
export const INNER_BYTES = -104;

/** For the whole program: R7 = the direction's totals, R9 = the settings. Leaves where it is switched off. */
export function prepare(a: Assembler, direction: number, setting: number): void {
  a.store('u32', R10, KEY, direction);
  lookUp(a, 'totals', KEY);
  a.jumpIf(R0, '==', 0, 'go on');
  a.let(R7, '=', R0);
  a.store('u32', R10, KEY, 0);
  lookUp(a, 'settings', KEY);
  a.jumpIf(R0, '==', 0, 'go on');
  a.let(R9, '=', R0);
  a.load('u32', R1, R9, setting);
  a.jumpIf(R1, '==', 0, 'off');
}

/** R0 = address of the entry whose key lies at R10 + key; the caller checks for 0. */
export function lookUp(a: Assembler, map: MapName, key: number): void {
  a.map(R1, map);
  a.let(R2, '=', R10);
  a.let(R2, '+=', key);
  a.call(...MAP_LOOKUP);
}

/** R1 = the value of the longest prefix of the address at R10 + at; `otherwise` where none is, or the slow path decides. */
export function lookUpLongest(a: Assembler, map: MapName, at: number, otherwise: string): void {
  a.store('u32', R10, KEY, 32);
  a.load('u32', R1, R10, at);
  a.store('u32', R10, KEY + 4, R1);
  lookUp(a, map, KEY);
  a.jumpIf(R0, '==', 0, otherwise);
  a.load('u32', R1, R0, 0);
  a.jumpIf(R1, '==', VALUE_SLOW, otherwise);
}

/** Copies `count` bytes of the packet at `offset` to R10 + to. */
export function loadBytes(a: Assembler, offset: number, to: number, count: number, failed: string): void {
  a.let(R1, '=', R6);
  a.let(R2, '=', offset);
  a.let(R3, '=', R10);
  a.let(R3, '+=', to);
  a.let(R4, '=', count);
  a.call(...LOAD_BYTES);
  a.jumpIf(R0, '!=', 0, failed);
}

/** Sums the 20 bytes at R10 + at into R1, folded to 16 bits; the order of bytes does not matter (RFC 1071 §2). */
export function sumHeader(a: Assembler, at: number): void {
  a.load('u32', R1, R10, at);
  for (let word = 4; word < 20; word += 4) {
    a.load('u32', R2, R10, at + word);
    a.let(R1, '+=', R2);
  }
  fold(a, 32, 0);
  for (let i = 0; i < 2; i++) fold(a, 16, 0xffff);
}

/** R1 = its upper part + its lower part. */
function fold(a: Assembler, bits: number, mask: number): void {
  a.let(R2, '=', R1);
  a.let(R2, '>>=', bits);
  if (bits === 32) {
    a.let(R1, '<<=', 32);
    a.let(R1, '>>=', 32);
  } else a.let(R1, '&=', mask);
  a.let(R1, '+=', R2);
}

/** Offsets within an IPv4 header. */
export const IP_TOS = 1;
export const IP_LENGTH = 2;
export const IP_ID = 4;
export const IP_FRAGMENT = 6;
export const IP_TTL = 8;
export const IP_PROTOCOL = 9;
export const IP_CHECKSUM = 10;
export const IP_SOURCE = 12;
export const IP_DESTINATION = 16;
export const IP_BYTES = 20;
export const VERSION_4_WITHOUT_OPTIONS = 0x45;

/**
 * Leaves for the slow path unless the 20 bytes at R10 + at are a header without options of a whole packet that is no
 * fragment and whose checksum is right. R3 must hold the packet's length, and still does afterwards.
 */
export function checkHeader(a: Assembler, at: number): void {
  a.load('u8', R1, R10, at);
  a.let(R2, '=', R1);
  a.let(R2, '>>=', 4);
  a.jumpIf(R2, '!=', 4, 'odd');
  a.jumpIf(R1, '!=', VERSION_4_WITHOUT_OPTIONS, 'options');
  a.load('u16', R1, R10, at + IP_LENGTH);
  a.bigEndian(R1, 16);
  a.jumpIf(R1, '!=', R3, 'odd');
  sumHeader(a, at);
  a.jumpIf(R1, '!=', 0xffff, 'odd');
  a.load('u16', R1, R10, at + IP_FRAGMENT);
  a.jumpIf(R1, '&', FRAGMENT_BITS, 'fragment');
}

const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const TCP_DATA_OFFSET = 12;
const UDP_BYTES = 8;

/**
 * How many packets on the wire the inner one is, which begins at `offset` of the packet: bytes of a full segment, how many
 * they are, bytes of all with their headers, and whether it is a superpacket. One has a segment size; its headers are
 * repeated in each segment.
 */
export function measureSegments(a: Assembler, offset: number): void {
  a.load('u64', R3, R10, INNER_BYTES);
  a.store('u64', R10, SEGMENT_BYTES, R3);
  a.store('u64', R10, WIRE_BYTES, R3);
  a.store('u64', R10, SEGMENTS, 1);
  a.store('u64', R10, IS_SUPERPACKET, 0);
  a.load('u32', R1, R6, SKB_GSO_SIZE);
  a.jumpIf(R1, '==', 0, 'measured');
  a.store('u64', R10, IS_SUPERPACKET, 1);
  a.load('u8', R1, R10, INNER + IP_PROTOCOL);
  a.let(R5, '=', IP_BYTES + UDP_BYTES);
  a.jumpIf(R1, '==', PROTOCOL_UDP, 'headers known');
  a.jumpIf(R1, '!=', PROTOCOL_TCP, 'odd');
  loadBytes(a, offset + IP_BYTES + TCP_DATA_OFFSET, SCRATCH, 1, 'odd');
  a.load('u8', R5, R10, SCRATCH);
  a.let(R5, '>>=', 4);
  a.jumpIf(R5, '<', 5, 'odd');
  a.let(R5, '<<=', 2);
  a.let(R5, '+=', IP_BYTES);
  a.label('headers known');
  a.load('u64', R3, R10, WIRE_BYTES);
  a.load('u32', R1, R6, SKB_GSO_SIZE);
  a.jumpIf(R3, '<=', R5, 'odd');
  a.let(R2, '=', R5);
  a.let(R2, '+=', R1);
  a.store('u64', R10, SEGMENT_BYTES, R2);
  // segments = ceil((length - headers) / size); all bytes = length + (segments - 1) * headers
  a.let(R4, '=', R3);
  a.let(R4, '-=', R5);
  a.let(R4, '+=', R1);
  a.let(R4, '-=', 1);
  a.let(R4, '/=', R1);
  a.store('u64', R10, SEGMENTS, R4);
  a.let(R4, '-=', 1);
  a.let(R4, '*=', R5);
  a.let(R4, '+=', R3);
  a.store('u64', R10, WIRE_BYTES, R4);
  a.label('measured');
}

/** *(u64 *)(base + cell * 8) += R1 */
export function addToCell(a: Assembler, base: Register, cell: number): void {
  a.load('u64', R2, base, cell * 8);
  a.let(R2, '+=', R1);
  a.store('u64', base, cell * 8, R2);
}

/**
 * The ways out: a label for each reason, which counts it in the totals at R7 and lets the packet go on. Each has its
 * own three instructions: without CAP_PERFMON the verifier forbids an offset that depends on the way to it.
 */
export function slowExits(a: Assembler, reasons: readonly string[]): void {
  reasons.forEach((reason, i) => {
    a.label(reason);
    a.let(R1, '=', 1);
    addToCell(a, R7, CELL_FIRST_REASON + i);
    a.jump('go on');
  });
  a.label('go on');
  a.let(R0, '=', GO_ON);
  a.exit();
}
