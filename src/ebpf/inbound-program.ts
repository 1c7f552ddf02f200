/**
 * Inbound, at the ingress of the underlay device: takes protocol 4 from known peers, checks the inner source as the
 * slow path does, takes the outer header off, and lets the packet come out of the tunnel device, so that reverse-path
 * filters and the firewall see it as they always do. inbound-twin.ts says the same in plain TypeScript.
 *
 * Everything else that arrives, which is most of what an underlay device sees, leaves after two comparisons.
 */
import {
  type AssembledProgram,
  Assembler,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  R10,
} from './assembler.ts';
import {
  CELL_IN_BYTES,
  CELL_OUT_BYTES,
  CELL_PACKETS,
  INBOUND,
  INBOUND_REASONS,
  PEER_IN_BYTES,
  PEER_IN_PACKETS,
  SETTING_DEVICE,
  SETTING_INBOUND,
  VALUE_ANY_PEER,
} from './layout.ts';
import {
  ADJUST_ROOM,
  addToCell,
  checkHeader,
  countSuperpacket,
  ETHERNET_BYTES,
  IP_BYTES,
  IP_CHECKSUM,
  IP_DESTINATION,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOS,
  KEEP_SEGMENT_SIZE,
  KEY,
  L3_CHECKSUM_REPLACE,
  LOAD_BYTES,
  lookUp,
  lookUpLongest,
  lowerHalf,
  measureSegments,
  PROTOCOL_IPV4,
  prepare,
  pull,
  REDIRECT,
  ROOM_BEHIND_LINK_HEADER,
  readable,
  SKB_LENGTH,
  SKB_PACKET_TYPE,
  SKB_PROTOCOL,
  SKB_VLAN_PRESENT,
  STORE_BYTES,
  slowExits,
  VERSION_4_WITHOUT_OPTIONS,
} from './program-parts.ts';

const PROTOCOL_IPIP = 4;
/** bpf_redirect: as if it had arrived by the device. */
const AS_INGRESS = 1;

/** ECN code points (RFC 3168 §5). */
const ECN_MASK = 3;
const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;

/** Where the two headers lie in the packet. */
const OUTER = ETHERNET_BYTES;
const INNER = ETHERNET_BYTES + IP_BYTES;

/** What R9 carries from the decisions to their execution, above the tunnel device's number. */
const NEW_TOS_SHIFT = 32;
const OLD_TOS_SHIFT = 40;
const SEGMENTS_SHIFT = 48;

export function inboundProgram(): AssembledProgram {
  const a = new Assembler('inbound');
  leaveOthersAlone(a);
  prepare(a, INBOUND, SETTING_INBOUND);
  readOuter(a);
  findPeer(a);
  readInner(a);
  checkSource(a);
  mergeCongestion(a);
  measureSegments(a, INNER);
  decapsulate(a);
  count(a);
  deliver(a);
  outOfLine(a);
  slowExits(a, INBOUND_REASONS);
  return a.assemble();
}

/** R6 = the packet. Only protocol 4 that is for this host, and not in a VLAN, which would be another device's. */
function leaveOthersAlone(a: Assembler): void {
  a.let(R6, '=', R1);
  a.load('u32', R1, R6, SKB_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPV4, 'go on');
  readable(a, OUTER + IP_BYTES, 'in pieces');
  a.load('u8', R1, R2, OUTER + IP_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPIP, 'go on');
  a.label('is protocol 4');
  a.load('u32', R1, R6, SKB_PACKET_TYPE);
  a.jumpIf(R1, '!=', 0, 'go on');
  a.load('u32', R1, R6, SKB_VLAN_PRESENT);
  a.jumpIf(R1, '!=', 0, 'go on');
}

function readOuter(a: Assembler): void {
  readable(a, OUTER + IP_BYTES, 'odd');
  a.load('u32', R5, R6, SKB_LENGTH);
  a.let(R5, '-=', OUTER);
  checkHeader(a, OUTER);
  lookUp(a, 'locals', R2, OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'destination');
}

/** R8 = the counters of the outer source, which only a known peer has. */
function findPeer(a: Assembler): void {
  readable(a, OUTER + IP_BYTES, 'odd');
  lookUp(a, 'peer_counters', R2, OUTER + IP_SOURCE);
  a.jumpIf(R0, '==', 0, 'peer');
  a.let(R8, '=', R0);
}

function readInner(a: Assembler): void {
  readable(a, INNER + IP_BYTES, 'odd');
  a.load('u32', R5, R6, SKB_LENGTH);
  a.let(R5, '-=', INNER);
  checkHeader(a, INNER);
  a.load('u8', R1, R2, INNER + IP_PROTOCOL);
  a.jumpIf(R1, '==', PROTOCOL_IPIP, 'nested');
}

/** The owner of the inner source by longest prefix is the outer source, or any peer may send it. */
function checkSource(a: Assembler): void {
  lookUpLongest(a, 'sources', INNER + IP_SOURCE, 'source');
  a.let(R4, '=', R1);
  readable(a, INNER + IP_BYTES, 'odd');
  a.jumpIf(R4, '==', VALUE_ANY_PEER, 'source is allowed');
  a.load('u32', R1, R2, OUTER + IP_SOURCE);
  a.jumpIf(R4, '!=', R1, 'source');
  a.label('source is allowed');
}

/**
 * RFC 6040 §4.2. What it says MUST be dropped goes to the slow path, which does so and counts.
 * R9 = the tunnel device, the TOS byte as it comes out, and as it is; R5 = the inner packet's bytes.
 */
function mergeCongestion(a: Assembler): void {
  a.load('u32', R9, R9, SETTING_DEVICE);
  a.load('u8', R1, R2, INNER + IP_TOS);
  a.let(R4, '=', R1);
  a.let(R4, '<<=', OLD_TOS_SHIFT);
  a.let(R9, '|=', R4);
  a.let(R3, '=', R1);
  a.let(R3, '&=', ECN_MASK);
  a.load('u8', R4, R2, OUTER + IP_TOS);
  a.let(R4, '&=', ECN_MASK);
  a.jumpIf(R4, '==', CE, 'outer met congestion');
  a.jumpIf(R4, '!=', ECT_1, 'tos is known');
  a.jumpIf(R3, '!=', ECT_0, 'tos is known');
  a.let(R1, '-=', ECT_0 - ECT_1);
  a.jump('tos is known');
  a.label('outer met congestion');
  a.jumpIf(R3, '==', NOT_ECT, 'ecn');
  a.let(R1, '|=', CE);
  a.label('tos is known');
  a.let(R1, '<<=', NEW_TOS_SHIFT);
  a.let(R9, '|=', R1);
  a.load('u32', R5, R6, SKB_LENGTH);
  a.let(R5, '-=', INNER);
}

function decapsulate(a: Assembler): void {
  a.let(R4, '<<=', SEGMENTS_SHIFT);
  a.let(R9, '|=', R4);
  a.let(R1, '=', R6);
  a.let(R2, '=', -IP_BYTES);
  a.let(R3, '=', ROOM_BEHIND_LINK_HEADER);
  a.let(R4, '=', KEEP_SEGMENT_SIZE);
  a.call(...ADJUST_ROOM);
  a.jumpIf(R0, '!=', 0, 'refused');
  a.let(R4, '=', R9);
  a.let(R4, '>>=', NEW_TOS_SHIFT);
  a.let(R4, '&=', 0xff);
  a.let(R3, '=', R9);
  a.let(R3, '>>=', OLD_TOS_SHIFT);
  a.let(R3, '&=', 0xff);
  a.jumpIf(R3, '!=', R4, 'tos has changed');
  a.label('tos is written');
}

function count(a: Assembler): void {
  a.let(R1, '=', R9);
  a.let(R1, '>>=', SEGMENTS_SHIFT);
  addToCell(a, R7, CELL_PACKETS);
  addToCell(a, R8, PEER_IN_PACKETS);
  a.load('u32', R1, R6, SKB_LENGTH);
  a.let(R1, '-=', ETHERNET_BYTES);
  addToCell(a, R7, CELL_OUT_BYTES);
  addToCell(a, R8, PEER_IN_BYTES);
  a.let(R1, '+=', IP_BYTES);
  addToCell(a, R7, CELL_IN_BYTES);
  countSuperpacket(a);
}

function deliver(a: Assembler): void {
  lowerHalf(a, R9);
  a.let(R1, '=', R9);
  a.let(R2, '=', AS_INGRESS);
  a.call(...REDIRECT);
  a.exit();
}

/** What seldom comes. */
function outOfLine(a: Assembler): void {
  // The headers in pieces, as a network card's driver may leave them: only those of protocol 4 are put together.
  a.label('in pieces');
  a.let(R1, '=', R6);
  a.let(R2, '=', OUTER + IP_PROTOCOL);
  a.let(R3, '=', R10);
  a.let(R3, '+=', KEY);
  a.let(R4, '=', 1);
  a.call(...LOAD_BYTES);
  a.jumpIf(R0, '!=', 0, 'go on');
  a.load('u8', R1, R10, KEY);
  a.jumpIf(R1, '!=', PROTOCOL_IPIP, 'go on');
  pull(a, INNER + IP_BYTES);
  a.jump('is protocol 4');
  // The first 16-bit word of the header, as it was and as it will be (RFC 1624), and its second byte.
  a.label('tos has changed');
  a.store('u64', R10, KEY, R4);
  a.let(R3, '<<=', 8);
  a.let(R3, '|=', VERSION_4_WITHOUT_OPTIONS);
  a.let(R4, '<<=', 8);
  a.let(R4, '|=', VERSION_4_WITHOUT_OPTIONS);
  a.let(R1, '=', R6);
  a.let(R2, '=', ETHERNET_BYTES + IP_CHECKSUM);
  a.let(R5, '=', 2);
  a.call(...L3_CHECKSUM_REPLACE);
  a.let(R1, '=', R6);
  a.let(R2, '=', ETHERNET_BYTES + IP_TOS);
  a.let(R3, '=', R10);
  a.let(R3, '+=', KEY);
  a.let(R4, '=', 1);
  a.let(R5, '=', 0);
  a.call(...STORE_BYTES);
  a.jump('tos is written');
}
