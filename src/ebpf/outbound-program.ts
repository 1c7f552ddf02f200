/**
 * Outbound, at the egress of the tunnel device: encapsulates what has a known peer and sends it by the kernel's own
 * route to that peer. outbound-twin.ts says the same in plain TypeScript.
 *
 * The order matters: everything is decided before the packet is changed, since what was changed could not go on to
 * the slow path. The peer's entry says by which device the kernel's route leads there: 0 where none does, and then the
 * slow path answers the sender. It says the next hop, too, whose neighbour the kernel looks up (redirect_neigh); where
 * it does not, the kernel looks for the route. (fib_lookup would do without both, but only programs under the GPL may
 * call it.)
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
  NEXT_HOP_BYTES,
  OUTBOUND,
  OUTBOUND_REASONS,
  PEER_OUT_BYTES,
  PEER_OUT_PACKETS,
  PEER_VALUE_DEVICE,
  PEER_VALUE_MTU,
  PEER_VALUE_NEXT_HOP,
  PEER_VALUE_SOURCE,
  PEER_VALUE_ZEROS,
  SETTING_DEVICE,
  SETTING_OUTBOUND,
} from './layout.ts';
import {
  ADD_IPV4,
  ADJUST_ROOM,
  addToCell,
  CHANGE_HEAD,
  checkHeader,
  countSuperpacket,
  DF_BIT,
  ETHERNET_BYTES,
  foldSum,
  IP_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_PROTOCOL,
  IP_TOS,
  IP_TTL,
  KEEP_SEGMENT_SIZE,
  lookUp,
  lookUpLongest,
  lowerHalf,
  measureSegments,
  PROTOCOL_IPV4,
  prepare,
  pull,
  RANDOM,
  REDIRECT_NEIGHBOUR,
  ROOM_BEHIND_LINK_HEADER,
  readable,
  SET_TUNNEL_KEY,
  SKB_LENGTH,
  SKB_PROTOCOL,
  STORE_BYTES,
  slowExits,
  VERSION_4_WITHOUT_OPTIONS,
} from './program-parts.ts';

export const OUTER_TTL = 64;
const PROTOCOL_IPIP = 4;
/** Id and remote address: the least of struct bpf_tunnel_key that the kernel takes. */
const SHORTEST_TUNNEL_KEY = 8;
const LONGEST_PACKET = 0xffff;

/** The stack below the key: the outer header, and where the peer's counters are. */
const OUTER = -40;
const PEER_COUNTERS = -48;

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
  drawId(a, linkHeaderBytes);
  a.load('u32', R5, R6, SKB_LENGTH);
  if (linkHeaderBytes > 0) a.let(R5, '-=', linkHeaderBytes);
  measureSegments(a, linkHeaderBytes);
  checkSize(a, linkHeaderBytes);
  writeOuterHeader(a, linkHeaderBytes);
  encapsulate(a, linkHeaderBytes);
  count(a, linkHeaderBytes);
  send(a);
  outOfLine(a, linkHeaderBytes);
  slowExits(a, OUTBOUND_REASONS);
  return a.assemble();
}

function readInner(a: Assembler, at: number): void {
  a.load('u32', R1, R6, SKB_PROTOCOL);
  a.jumpIf(R1, '!=', PROTOCOL_IPV4, 'odd');
  readable(a, at + IP_BYTES, 'in pieces');
  a.label('together');
  a.load('u32', R5, R6, SKB_LENGTH);
  if (at > 0) a.let(R5, '-=', at);
  checkHeader(a, at);
  a.load('u8', R1, R2, at + IP_TTL);
  a.jumpIf(R1, '==', 0, 'odd');
  // RFC 2003 §3.2: whether that is a loop, the slow path finds out.
  a.load('u8', R1, R2, at + IP_PROTOCOL);
  a.jumpIf(R1, '==', PROTOCOL_IPIP, 'nested');
  lookUpLongest(a, 'routes', at + IP_DESTINATION, 'route');
}

/**
 * The peer's address is the outer destination. R8 = its entry, the way there; R9 = the outer source. The kernel has a way,
 * and it does not lead back into the tunnel.
 */
function findPeer(a: Assembler): void {
  a.store('u32', R10, OUTER + IP_DESTINATION, R1);
  lookUp(a, 'peers', R10, OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'peer');
  a.load('u32', R1, R0, PEER_VALUE_MTU);
  a.jumpIf(R1, '==', 0, 'peer');
  a.load('u32', R1, R0, PEER_VALUE_DEVICE);
  a.jumpIf(R1, '==', 0, 'underlay');
  a.load('u32', R3, R9, SETTING_DEVICE);
  a.jumpIf(R1, '==', R3, 'underlay');
  a.let(R8, '=', R0);
  a.load('u32', R9, R8, PEER_VALUE_SOURCE);
  lookUp(a, 'peer_counters', R10, OUTER + IP_DESTINATION);
  a.jumpIf(R0, '==', 0, 'peer');
  a.store('u64', R10, PEER_COUNTERS, R0);
}

/** R0 = an id where the outer packet may be fragmented, else 0 (RFC 6864 §4.1). */
function drawId(a: Assembler, at: number): void {
  readable(a, at + IP_BYTES, 'odd');
  a.let(R0, '=', 0);
  a.load('u16', R1, R2, at + IP_FRAGMENT);
  a.jumpIf(R1, '&', DF_BIT, 'id is known');
  a.call(...RANDOM);
  a.let(R0, '&=', 0xffff);
  a.label('id is known');
}

/** A full segment fits the path. */
function checkSize(a: Assembler, linkHeaderBytes: number): void {
  a.let(R3, '+=', IP_BYTES);
  a.load('u32', R1, R8, PEER_VALUE_MTU);
  a.jumpIf(R3, '>', R1, 'too_big');
  // The total length has 16 bits.
  a.load('u32', R1, R6, SKB_LENGTH);
  a.jumpIf(R1, '>', LONGEST_PACKET - IP_BYTES + linkHeaderBytes, 'too_big');
}

/**
 * RFC 2003 §3.1: TTL 64, DSCP and ECN copied, DF copied. Put together in registers as it lies in memory, each byte above
 * the one before it: R2 = version, TOS and length; R0 = id and flags; R9 = our address.
 */
function writeOuterHeader(a: Assembler, at: number): void {
  readable(a, at + IP_BYTES, 'odd');
  a.load('u16', R1, R2, at + IP_FRAGMENT);
  a.let(R1, '&=', DF_BIT);
  a.let(R1, '<<=', 16);
  a.let(R0, '|=', R1);
  a.load('u8', R2, R2, at + IP_TOS);
  a.let(R2, '<<=', 8);
  a.let(R2, '|=', VERSION_4_WITHOUT_OPTIONS);
  a.load('u32', R1, R6, SKB_LENGTH);
  a.let(R1, '+=', IP_BYTES - at);
  a.bigEndian(R1, 16);
  a.let(R1, '<<=', 16);
  a.let(R2, '|=', R1);
  const ttlAndProtocol = OUTER_TTL | (PROTOCOL_IPIP << 8);
  a.load('u32', R1, R10, OUTER + IP_DESTINATION);
  for (const word of [R0, R2, R9]) a.let(R1, '+=', word);
  a.let(R1, '+=', ttlAndProtocol);
  foldSum(a);
  a.let(R0, '<<=', 32);
  a.let(R0, '|=', R2);
  a.store('u64', R10, OUTER, R0);
  a.let(R2, '=', 0xffff);
  a.let(R2, '-=', R1);
  a.let(R2, '<<=', 16);
  a.let(R2, '|=', ttlAndProtocol);
  a.let(R9, '<<=', 32);
  a.let(R2, '|=', R9);
  a.store('u64', R10, OUTER + 8, R2);
  // What is to be counted: segments above their bytes.
  a.let(R9, '=', R4);
  a.let(R9, '<<=', 32);
  a.let(R9, '|=', R5);
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

/** By now an Ethernet header and the outer one are before the inner packet. */
function count(a: Assembler, linkHeaderBytes: number): void {
  a.load('u64', R3, R10, PEER_COUNTERS);
  a.let(R1, '=', R9);
  a.let(R1, '>>=', 32);
  addToCell(a, R7, CELL_PACKETS);
  addToCell(a, R3, PEER_OUT_PACKETS);
  lowerHalf(a, R9);
  a.let(R1, '=', R9);
  addToCell(a, R7, CELL_OUT_BYTES);
  addToCell(a, R3, PEER_OUT_BYTES);
  a.load('u32', R1, R6, SKB_LENGTH);
  a.let(R1, '-=', (linkHeaderBytes || ETHERNET_BYTES) + IP_BYTES);
  addToCell(a, R7, CELL_IN_BYTES);
  countSuperpacket(a);
}

/**
 * The kernel resolves the neighbour and sends. The packet still has its route into the tunnel device, and one that has to
 * wait for the neighbour's MAC is sent by its route, without a link header: so a tunnel's key, of zeros, takes the
 * place of the route. Nobody reads it, and it leads nowhere.
 */
function send(a: Assembler): void {
  a.let(R2, '=', 0);
  a.load('u32', R3, R8, PEER_VALUE_NEXT_HOP);
  a.jumpIf(R3, '==', 0, 'send');
  a.let(R1, '=', R6);
  a.let(R2, '=', R8);
  a.let(R2, '+=', PEER_VALUE_ZEROS);
  a.let(R3, '=', SHORTEST_TUNNEL_KEY);
  a.let(R4, '=', 0);
  a.call(...SET_TUNNEL_KEY);
  a.let(R2, '=', R8);
  a.let(R2, '+=', PEER_VALUE_NEXT_HOP);
  a.let(R3, '=', NEXT_HOP_BYTES);
  // Or none, of no bytes: the kernel looks for the route.
  a.label('send');
  a.load('u32', R1, R8, PEER_VALUE_DEVICE);
  a.let(R4, '=', 0);
  a.call(...REDIRECT_NEIGHBOUR);
  a.exit();
}

/** What seldom comes: a header in pieces, as a network card's driver may leave it in a packet that is forwarded. */
function outOfLine(a: Assembler, at: number): void {
  a.label('in pieces');
  pull(a, at + IP_BYTES);
  readable(a, at + IP_BYTES, 'odd');
  a.jump('together');
  // No memory for a header: back to what it was, and on by the slow path.
  a.label('undo');
  a.let(R1, '=', R6);
  a.let(R2, '=', -IP_BYTES);
  a.let(R3, '=', ROOM_BEHIND_LINK_HEADER);
  a.let(R4, '=', KEEP_SEGMENT_SIZE);
  a.call(...ADJUST_ROOM);
  a.jump('refused');
}
