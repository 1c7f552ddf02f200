/**
 * What both programs are made of: the kernel's numbers, and pieces of assembly.
 *
 * The stack is written as little as can be. Without CAP_PERFMON, which the agent has not, the verifier puts an `lfence`
 * behind each first write to a place of it (against speculative store bypass), and each costs some 5 ns: headers are
 * read where they lie in the packet, and what is to outlive a call travels in R6 to R9.
 */
import { type Assembler, R0, R1, R2, R3, R4, R5, R6, R7, R9, R10, type Register } from './assembler.ts';
import { CELL_FIRST_REASON, CELL_SUPERPACKETS, type MapName, VALUE_SLOW } from './layout.ts';

/** Offsets in struct __sk_buff (<linux/bpf.h>). */
export const SKB_LENGTH = 0;
export const SKB_PACKET_TYPE = 4;
export const SKB_PROTOCOL = 16;
export const SKB_VLAN_PRESENT = 20;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
export const SKB_GSO_SIZE = 176;

/** Helpers of the kernel, by number and name: `a.call(...HELPER)`. */
export const MAP_LOOKUP = [1, 'bpf_map_lookup_elem'] as const;
export const RANDOM = [7, 'bpf_get_prandom_u32'] as const;
export const STORE_BYTES = [9, 'bpf_skb_store_bytes'] as const;
export const L3_CHECKSUM_REPLACE = [10, 'bpf_l3_csum_replace'] as const;
export const SET_TUNNEL_KEY = [21, 'bpf_skb_set_tunnel_key'] as const;
export const REDIRECT = [23, 'bpf_redirect'] as const;
export const LOAD_BYTES = [26, 'bpf_skb_load_bytes'] as const;
export const PULL_DATA = [39, 'bpf_skb_pull_data'] as const;
export const CHANGE_HEAD = [43, 'bpf_skb_change_head'] as const;
export const ADJUST_ROOM = [50, 'bpf_skb_adjust_room'] as const;
export const REDIRECT_NEIGHBOUR = [152, 'bpf_redirect_neigh'] as const;
/** The monotonic clock as of the last tick: some nanoseconds a call, where the exact one may take hundreds. */
export const COARSE_CLOCK = [160, 'bpf_ktime_get_coarse_ns'] as const;

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

/** The one key that both programs keep below R10; a prefix is 8 bytes. */
export const KEY = -8;

/**
 * For the whole program: R7 = the direction's totals, R9 = the settings. Leaves where it is not on by now: switched off,
 * or its agent has stood still for so long that nobody follows the tables. One write lays both keys: the direction, and
 * behind it the 0 of the settings.
 */
export function prepare(a: Assembler, direction: number, setting: number): void {
  a.store('u64', R10, KEY, direction);
  lookUp(a, 'totals', R10, KEY);
  a.jumpIf(R0, '==', 0, 'go on');
  a.let(R7, '=', R0);
  lookUp(a, 'settings', R10, KEY + 4);
  a.jumpIf(R0, '==', 0, 'go on');
  a.let(R9, '=', R0);
  a.call(...COARSE_CLOCK);
  a.load('u64', R1, R9, setting);
  a.jumpIf(R0, '>', R1, 'not on');
}

/** R0 = address of the entry whose key lies at base + key; the caller checks for 0. */
export function lookUp(a: Assembler, map: MapName, base: Register, key: number): void {
  if (base !== R2) a.let(R2, '=', base);
  if (key !== 0) a.let(R2, '+=', key);
  a.map(R1, map);
  a.call(...MAP_LOOKUP);
}

/**
 * R1 = the value of the longest prefix of the address at R2 + at; `otherwise` where none is, or the slow path decides.
 * The key is the length, 32, and the address behind it.
 */
export function lookUpLongest(a: Assembler, map: MapName, at: number, otherwise: string): void {
  a.load('u32', R1, R2, at);
  a.let(R1, '<<=', 32);
  a.let(R1, '|=', 32);
  a.store('u64', R10, KEY, R1);
  lookUp(a, map, R10, KEY);
  a.jumpIf(R0, '==', 0, otherwise);
  a.load('u32', R1, R0, 0);
  a.jumpIf(R1, '==', VALUE_SLOW, otherwise);
}

/** R2 = where the packet lies, its first `count` bytes readable; uses R1 and R3. */
export function readable(a: Assembler, count: number, otherwise: string): void {
  a.load('u32', R2, R6, SKB_DATA);
  a.load('u32', R3, R6, SKB_DATA_END);
  a.let(R1, '=', R2);
  a.let(R1, '+=', count);
  a.jumpIf(R1, '>', R3, otherwise);
}

/** The first `count` bytes together, where a driver left them in pieces; then `readable` again. */
export function pull(a: Assembler, count: number): void {
  a.let(R1, '=', R6);
  a.let(R2, '=', count);
  a.call(...PULL_DATA);
}

/** Folds the sum in R1 to 16 bits; the order of bytes does not matter (RFC 1071 §2). Uses R3. */
export function foldSum(a: Assembler): void {
  fold(a, 32, 0);
  for (let i = 0; i < 2; i++) fold(a, 16, 0xffff);
}

/** R1 = its upper part + its lower part. */
function fold(a: Assembler, bits: number, mask: number): void {
  a.let(R3, '=', R1);
  a.let(R3, '>>=', bits);
  if (bits === 32) lowerHalf(a, R1);
  else a.let(R1, '&=', mask);
  a.let(R1, '+=', R3);
}

/** Takes the upper 32 bits away. */
export function lowerHalf(a: Assembler, register: Register): void {
  a.let(register, '<<=', 32);
  a.let(register, '>>=', 32);
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
 * Leaves for the slow path unless the 20 bytes at R2 + at are a header without options of a whole packet of R5 bytes that
 * is no fragment, and whose checksum is right.
 */
export function checkHeader(a: Assembler, at: number): void {
  a.load('u8', R1, R2, at);
  a.let(R3, '=', R1);
  a.let(R3, '>>=', 4);
  a.jumpIf(R3, '!=', 4, 'odd');
  a.jumpIf(R1, '!=', VERSION_4_WITHOUT_OPTIONS, 'options');
  a.load('u16', R1, R2, at + IP_LENGTH);
  a.bigEndian(R1, 16);
  a.jumpIf(R1, '!=', R5, 'odd');
  a.load('u32', R1, R2, at);
  for (let word = 4; word < IP_BYTES; word += 4) {
    a.load('u32', R3, R2, at + word);
    a.let(R1, '+=', R3);
  }
  foldSum(a);
  a.jumpIf(R1, '!=', 0xffff, 'odd');
  a.load('u16', R1, R2, at + IP_FRAGMENT);
  a.jumpIf(R1, '&', FRAGMENT_BITS, 'fragment');
}

const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const TCP_DATA_OFFSET = 12;
const TCP_READ = IP_BYTES + TCP_DATA_OFFSET + 1;
const UDP_BYTES = 8;

/**
 * How many packets on the wire the inner one is, which begins at `offset` of the packet, has R5 bytes, and a header that is
 * readable: R3 = bytes of a full segment, R4 = how many they are, R5 = bytes of all with their headers, which are repeated
 * in each. Only a superpacket has a segment size. Uses R1 and R2.
 */
export function measureSegments(a: Assembler, offset: number): void {
  a.load('u32', R1, R6, SKB_GSO_SIZE);
  a.let(R3, '=', R5);
  a.let(R4, '=', 1);
  a.jumpIf(R1, '==', 0, 'measured');
  readable(a, offset + IP_BYTES, 'odd');
  a.load('u8', R1, R2, offset + IP_PROTOCOL);
  a.let(R4, '=', IP_BYTES + UDP_BYTES);
  a.jumpIf(R1, '==', PROTOCOL_UDP, 'headers known');
  a.jumpIf(R1, '!=', PROTOCOL_TCP, 'odd');
  readable(a, offset + TCP_READ, 'odd');
  a.load('u8', R4, R2, offset + IP_BYTES + TCP_DATA_OFFSET);
  a.let(R4, '>>=', 4);
  a.jumpIf(R4, '<', 5, 'odd');
  a.let(R4, '<<=', 2);
  a.let(R4, '+=', IP_BYTES);
  a.label('headers known');
  a.jumpIf(R5, '<=', R4, 'odd');
  a.load('u32', R1, R6, SKB_GSO_SIZE);
  a.let(R3, '=', R4);
  a.let(R3, '+=', R1);
  // segments = ceil((length - headers) / size); all bytes = length + (segments - 1) * headers
  a.let(R2, '=', R5);
  a.let(R2, '-=', R4);
  a.let(R2, '+=', R1);
  a.let(R2, '-=', 1);
  a.let(R2, '/=', R1);
  a.let(R1, '=', R2);
  a.let(R1, '-=', 1);
  a.let(R1, '*=', R4);
  a.let(R5, '+=', R1);
  a.let(R4, '=', R2);
  a.label('measured');
}

/** One superpacket more in the totals, if it is one; uses R1 and R2. */
export function countSuperpacket(a: Assembler): void {
  a.load('u32', R1, R6, SKB_GSO_SIZE);
  a.jumpIf(R1, '==', 0, 'counted');
  a.let(R1, '=', 1);
  addToCell(a, R7, CELL_SUPERPACKETS);
  a.label('counted');
}

/** *(u64 *)(base + cell * 8) += R1; uses R2 */
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
  a.label('not on');
  a.jumpIf(R1, '!=', 0, 'frozen');
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
