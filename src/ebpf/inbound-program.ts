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
  CELL_SUPERPACKETS,
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
  ETHERNET_BYTES,
  INNER,
  INNER_BYTES,
  IP_BYTES,
  IP_CHECKSUM,
  IP_DESTINATION,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOS,
  IS_SUPERPACKET,
  KEEP_SEGMENT_SIZE,
  L3_CHECKSUM_REPLACE,
  loadBytes,
  lookUp,
  lookUpLongest,
  measureSegments,
  OUTER,
  PROTOCOL_IPV4,
  prepare,
  REDIRECT,
  ROOM_BEHIND_LINK_HEADER,
  SEGMENTS,
  SKB_LENGTH,
  SKB_PACKET_TYPE,
  SKB_PROTOCOL,
  SKB_VLAN_PRESENT,
  STORE_BYTES,
  slowExits,
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

/** The stack below what both programs have there: the TOS byte of the inner header as it comes out. */
const NEW_TOS = -112;

export function inboundProgram(): AssembledProgram {
  const a = new Assembler('inbound');
  leaveOthersAlone(a);
  prepare(a, INBOUND, SETTING_INBOUND);
  readOuter(a);
  findPeer(a);
  readInner(a);
  checkSource(a);
  mergeCongestion(a);
  measureSegments(a, ETHERNET_BYTES + IP_BYTES);
  decapsulate(a);
  count(a);
  deliver(a);
  slowExits(a, INBOUND_REASONS);
  return a.assemble();
}

/** R6 = the packet. Only protocol 4 that is for this host, and not in a VLAN, which would be another device's. */
function leaveOthersAlone(a: Assembler): void {
  a.let(R6, '=', R1);
  a.load('u32', R1, R6, SKB_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPV4, 'go on');
  loadBytes(a, ETHERNET_BYTES, OUTER, IP_BYTES, 'go on');
  a.load('u8', R1, R10, OUTER + IP_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPIP, 'go on');
  a.load('u32', R1, R6, SKB_PACKET_TYPE);
  a.jumpIf(R1, '!=', 0, 'go on');
  a.load('u32', R1, R6, SKB_VLAN_PRESENT);
  a.jumpIf(R1, '!=', 0, 'go on');
}

function readOuter(a: Assembler): void {
  a.load('u32', R3, R6, SKB_LENGTH);
  a.let(R3, '-=', ETHERNET_BYTES);
  checkHeader(a, OUTER);
  a.let(R3, '-=', IP_BYTES);
  a.store('u64', R10, INNER_BYTES, R3);
  lookUp(a, 'locals', OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'destination');
}

/** R8 = the counters of the outer source, which only a known peer has. */
function findPeer(a: Assembler): void {
  lookUp(a, 'peer_counters', OUTER + IP_SOURCE);
  a.jumpIf(R0, '==', 0, 'peer');
  a.let(R8, '=', R0);
}

function readInner(a: Assembler): void {
  loadBytes(a, ETHERNET_BYTES + IP_BYTES, INNER, IP_BYTES, 'odd');
  a.load('u64', R3, R10, INNER_BYTES);
  checkHeader(a, INNER);
  a.load('u8', R1, R10, INNER + IP_PROTOCOL);
  a.jumpIf(R1, '==', PROTOCOL_IPIP, 'nested');
}

/** The owner of the inner source by longest prefix is the outer source, or any peer may send it. */
function checkSource(a: Assembler): void {
  lookUpLongest(a, 'sources', INNER + IP_SOURCE, 'source');
  a.jumpIf(R1, '==', VALUE_ANY_PEER, 'source is allowed');
  a.load('u32', R2, R10, OUTER + IP_SOURCE);
  a.jumpIf(R1, '!=', R2, 'source');
  a.label('source is allowed');
}

/** RFC 6040 §4.2. What it says MUST be dropped goes to the slow path, which does so and counts. */
function mergeCongestion(a: Assembler): void {
  a.load('u8', R1, R10, INNER + IP_TOS);
  a.store('u8', R10, NEW_TOS, R1);
  a.let(R2, '=', R1);
  a.let(R2, '&=', ECN_MASK);
  a.load('u8', R3, R10, OUTER + IP_TOS);
  a.let(R3, '&=', ECN_MASK);
  a.jumpIf(R3, '==', CE, 'outer met congestion');
  a.jumpIf(R3, '!=', ECT_1, 'tos is known');
  a.jumpIf(R2, '!=', ECT_0, 'tos is known');
  a.let(R1, '-=', ECT_0 - ECT_1);
  a.store('u8', R10, NEW_TOS, R1);
  a.jump('tos is known');
  a.label('outer met congestion');
  a.jumpIf(R2, '==', NOT_ECT, 'ecn');
  a.let(R1, '|=', CE);
  a.store('u8', R10, NEW_TOS, R1);
  a.label('tos is known');
}

function decapsulate(a: Assembler): void {
  a.let(R1, '=', R6);
  a.let(R2, '=', -IP_BYTES);
  a.let(R3, '=', ROOM_BEHIND_LINK_HEADER);
  a.let(R4, '=', KEEP_SEGMENT_SIZE);
  a.call(...ADJUST_ROOM);
  a.jumpIf(R0, '!=', 0, 'refused');
  a.load('u8', R1, R10, NEW_TOS);
  a.load('u8', R2, R10, INNER + IP_TOS);
  a.jumpIf(R1, '==', R2, 'tos is written');
  // The first 16-bit word of the header, as it was and as it will be (RFC 1624).
  a.load('u16', R3, R10, INNER);
  a.store('u8', R10, INNER + IP_TOS, R1);
  a.load('u16', R4, R10, INNER);
  a.let(R1, '=', R6);
  a.let(R2, '=', ETHERNET_BYTES + IP_CHECKSUM);
  a.let(R5, '=', 2);
  a.call(...L3_CHECKSUM_REPLACE);
  a.let(R1, '=', R6);
  a.let(R2, '=', ETHERNET_BYTES + IP_TOS);
  a.let(R3, '=', R10);
  a.let(R3, '+=', INNER + IP_TOS);
  a.let(R4, '=', 1);
  a.let(R5, '=', 0);
  a.call(...STORE_BYTES);
  a.label('tos is written');
}

function count(a: Assembler): void {
  a.load('u64', R1, R10, SEGMENTS);
  addToCell(a, R7, CELL_PACKETS);
  addToCell(a, R8, PEER_IN_PACKETS);
  a.load('u64', R1, R10, INNER_BYTES);
  addToCell(a, R7, CELL_OUT_BYTES);
  addToCell(a, R8, PEER_IN_BYTES);
  a.let(R1, '+=', IP_BYTES);
  addToCell(a, R7, CELL_IN_BYTES);
  a.load('u64', R1, R10, IS_SUPERPACKET);
  addToCell(a, R7, CELL_SUPERPACKETS);
}

function deliver(a: Assembler): void {
  a.load('u32', R1, R9, SETTING_DEVICE);
  a.let(R2, '=', AS_INGRESS);
  a.call(...REDIRECT);
  a.exit();
}
