/**
 * Outbound, at the egress of the tunnel device: encapsulates what has a known peer and sends it by the kernel's own
 * route to that peer. outbound-twin.ts says the same in plain TypeScript.
 *
 * The order matters: everything is decided before the packet is changed, since what was changed could not go on to
 * the slow path. The peer's entry says by which device the kernel's route leads there: 0 where none does, and then the
 * slow path answers the sender. The route itself and the neighbour are looked up by the kernel (redirect_neigh).
 * (fib_lookup would do without that number, but only programs under the GPL may call it.)
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
  OUTBOUND,
  OUTBOUND_REASONS,
  PEER_OUT_BYTES,
  PEER_OUT_PACKETS,
  PEER_VALUE_DEVICE,
  PEER_VALUE_MTU,
  SETTING_DEVICE,
  SETTING_OUTBOUND,
  SETTING_SOURCE,
} from './layout.ts';
import {
  ADD_IPV4,
  ADJUST_ROOM,
  addToCell,
  CHANGE_HEAD,
  checkHeader,
  DF_BIT,
  ETHERNET_BYTES,
  INNER,
  INNER_BYTES,
  IP_BYTES,
  IP_CHECKSUM,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_ID,
  IP_LENGTH,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOS,
  IP_TTL,
  IS_SUPERPACKET,
  KEEP_SEGMENT_SIZE,
  loadBytes,
  lookUp,
  lookUpLongest,
  measureSegments,
  OUTER,
  PROTOCOL_IPV4,
  prepare,
  RANDOM,
  REDIRECT_NEIGHBOUR,
  ROOM_BEHIND_LINK_HEADER,
  SEGMENT_BYTES,
  SEGMENTS,
  SKB_LENGTH,
  SKB_PROTOCOL,
  STORE_BYTES,
  slowExits,
  sumHeader,
  VERSION_4_WITHOUT_OPTIONS,
  WIRE_BYTES,
} from './program-parts.ts';

export const OUTER_TTL = 64;
const PROTOCOL_IPIP = 4;

/** The stack below what both programs have there. */
const PEER_MTU = -112;
const PEER_DEVICE = -120;

/**
 * `linkHeaderBytes`: 0 on a TUN. The kernel's BPF_PROG_TEST_RUN always puts an Ethernet header before the packet, so
 * tests assemble the same program with 14.
 */
export function outboundProgram(linkHeaderBytes: 0 | typeof ETHERNET_BYTES = 0): AssembledProgram {
  const a = new Assembler('outbound');
  a.let(R6, '=', R1);
  prepare(a, OUTBOUND, SETTING_OUTBOUND);
  readInner(a, linkHeaderBytes);
  findPeer(a);
  measureSegments(a, linkHeaderBytes);
  checkWay(a);
  writeOuterHeader(a);
  encapsulate(a, linkHeaderBytes);
  count(a);
  send(a);
  slowExits(a, OUTBOUND_REASONS);
  return a.assemble();
}

function readInner(a: Assembler, linkHeaderBytes: number): void {
  a.load('u32', R1, R6, SKB_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPV4, 'odd');
  loadBytes(a, linkHeaderBytes, INNER, IP_BYTES, 'odd');
  a.load('u32', R3, R6, SKB_LENGTH);
  if (linkHeaderBytes > 0) a.let(R3, '-=', linkHeaderBytes);
  checkHeader(a, INNER);
  a.store('u64', R10, INNER_BYTES, R3);
  a.load('u8', R1, R10, INNER + IP_TTL);
  a.jumpIf(R1, '==', 0, 'odd');
  // RFC 2003 §3.2: whether that is a loop, the slow path finds out.
  a.load('u8', R1, R10, INNER + IP_PROTOCOL);
  a.jumpIf(R1, '==', PROTOCOL_IPIP, 'nested');
}

/** R8 = the peer's counters; its address is the outer destination. */
function findPeer(a: Assembler): void {
  lookUpLongest(a, 'routes', INNER + IP_DESTINATION, 'route');
  a.store('u32', R10, OUTER + IP_DESTINATION, R1);
  lookUp(a, 'peers', OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'peer');
  a.load('u32', R1, R0, PEER_VALUE_MTU);
  a.jumpIf(R1, '==', 0, 'peer');
  a.store('u64', R10, PEER_MTU, R1);
  a.load('u32', R1, R0, PEER_VALUE_DEVICE);
  a.store('u64', R10, PEER_DEVICE, R1);
  lookUp(a, 'peer_counters', OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'peer');
  a.let(R8, '=', R0);
}

/** Fits the path, and the kernel has a way there that does not lead back into the tunnel. */
function checkWay(a: Assembler): void {
  a.load('u64', R3, R10, SEGMENT_BYTES);
  a.let(R3, '+=', IP_BYTES);
  a.load('u64', R1, R10, PEER_MTU);
  a.jumpIf(R3, '>', R1, 'too_big');
  a.load('u64', R1, R10, PEER_DEVICE);
  a.jumpIf(R1, '==', 0, 'underlay');
  a.load('u32', R2, R9, SETTING_DEVICE);
  a.jumpIf(R1, '==', R2, 'underlay');
}

/** RFC 2003 §3.1 at R10 + OUTER: TTL 64, DSCP and ECN copied, DF copied; an id only where it may be fragmented. */
function writeOuterHeader(a: Assembler): void {
  a.store('u8', R10, OUTER, VERSION_4_WITHOUT_OPTIONS);
  a.load('u8', R1, R10, INNER + IP_TOS);
  a.store('u8', R10, OUTER + IP_TOS, R1);
  a.load('u64', R1, R10, INNER_BYTES);
  a.let(R1, '+=', IP_BYTES);
  // The total length has 16 bits.
  a.jumpIf(R1, '>', 0xffff, 'too_big');
  a.bigEndian(R1, 16);
  a.store('u16', R10, OUTER + IP_LENGTH, R1);
  a.store('u16', R10, OUTER + IP_ID, 0);
  a.load('u16', R1, R10, INNER + IP_FRAGMENT);
  a.let(R1, '&=', DF_BIT);
  a.store('u16', R10, OUTER + IP_FRAGMENT, R1);
  a.jumpIf(R1, '!=', 0, 'id is written');
  a.call(...RANDOM);
  a.store('u16', R10, OUTER + IP_ID, R0);
  a.label('id is written');
  a.load('u32', R1, R9, SETTING_SOURCE);
  a.store('u32', R10, OUTER + IP_SOURCE, R1);
  a.store('u8', R10, OUTER + IP_TTL, OUTER_TTL);
  a.store('u8', R10, OUTER + IP_PROTOCOL, PROTOCOL_IPIP);
  a.store('u16', R10, OUTER + IP_CHECKSUM, 0);
  sumHeader(a, OUTER);
  a.let(R2, '=', 0xffff);
  a.let(R2, '-=', R1);
  a.store('u16', R10, OUTER + IP_CHECKSUM, R2);
}

/** Makes room, writes the header, and on a TUN puts a link header before it, which the redirection asks for. */
function encapsulate(a: Assembler, linkHeaderBytes: number): void {
  a.let(R1, '=', R6);
  a.let(R2, '=', IP_BYTES);
  a.let(R3, '=', ROOM_BEHIND_LINK_HEADER);
  a.let(R4, '=', KEEP_SEGMENT_SIZE | ADD_IPV4);
  a.call(...ADJUST_ROOM);
  a.jumpIf(R0, '!=', 0, 'refused');
  a.let(R1, '=', R6);
  a.let(R2, '=', linkHeaderBytes);
  a.let(R3, '=', R10);
  a.let(R3, '+=', OUTER);
  a.let(R4, '=', IP_BYTES);
  a.let(R5, '=', 0);
  a.call(...STORE_BYTES);
  a.jumpIf(R0, '!=', 0, 'undo');
  if (linkHeaderBytes > 0) return;
  a.let(R1, '=', R6);
  a.let(R2, '=', ETHERNET_BYTES);
  a.let(R3, '=', 0);
  a.call(...CHANGE_HEAD);
  a.jumpIf(R0, '!=', 0, 'undo');
}

function count(a: Assembler): void {
  a.load('u64', R1, R10, SEGMENTS);
  addToCell(a, R7, CELL_PACKETS);
  addToCell(a, R8, PEER_OUT_PACKETS);
  a.load('u64', R1, R10, WIRE_BYTES);
  addToCell(a, R7, CELL_OUT_BYTES);
  addToCell(a, R8, PEER_OUT_BYTES);
  a.load('u64', R1, R10, INNER_BYTES);
  addToCell(a, R7, CELL_IN_BYTES);
  a.load('u64', R1, R10, IS_SUPERPACKET);
  addToCell(a, R7, CELL_SUPERPACKETS);
}

/** The kernel resolves the next hop and sends. */
function send(a: Assembler): void {
  a.load('u64', R1, R10, PEER_DEVICE);
  for (const unused of [R2, R3, R4]) a.let(unused, '=', 0);
  a.call(...REDIRECT_NEIGHBOUR);
  a.exit();
  // No memory for a header: back to what it was, and on by the slow path.
  a.label('undo');
  a.let(R1, '=', R6);
  a.let(R2, '=', -IP_BYTES);
  a.let(R3, '=', ROOM_BEHIND_LINK_HEADER);
  a.let(R4, '=', KEEP_SEGMENT_SIZE);
  a.call(...ADJUST_ROOM);
  a.jump('refused');
}
