/**
 * The records of the coalescer, in words. One array of records, not an array for each field: where a single packet has
 * woken the thread, two lines of the cache are missing, not forty. A run or packet is named by where its record begins.
 */

/** What is known of a packet's transport checksum. Unverified packets are looked at: a partial one is recognized. */
export const CHECKSUM_UNVERIFIED = 0;
export const CHECKSUM_VALID = 1;
export const CHECKSUM_PARTIAL = 2;

/** Neither a run nor a packet. */
export const NO_RUN = -1;

/** 1: it may grow. */
export const RUN_OPEN = 0;
/** Where its first packet begins, where its virtio-net header goes, and what all of the run share. */
export const RUN_OFFSET = 1;
export const RUN_VNET = 2;
export const RUN_IP_BYTES = 3;
export const RUN_HEADER_BYTES = 4;
export const RUN_PROTOCOL = 5;
export const RUN_PORTS = 6;
export const RUN_SEGMENT_BYTES = 7;
export const RUN_FIRST_PACKET = 8;
export const RUN_LAST_PACKET = 9;
export const RUN_TOTAL_BYTES = 10;
export const RUN_CHECKSUM_STATE = 11;
export const RUN_NEXT_SEQUENCE = 12;
/** FIN and PSH of the packets that were appended. */
export const RUN_ADDED_FLAGS = 13;
/** Of a run of several: 1 where they have one id, 0 where it counts up. */
export const RUN_CONSTANT_ID = 14;
/** As they were on the wire: the segments of a superpacket that came whole count. */
export const RUN_PACKETS = 15;
/** NO_RUN: it is in none, and found by nobody. */
export const RUN_BUCKET = 16;
export const RUN_OLDER = 17;
/** The caller's to write. */
export const RUN_TAG = 18;
export const RUN_WORDS = 19;

/** A record of a packet: its payload, and the next packet of the run. */
export const PACKET_OFFSET = 0;
export const PACKET_BYTES = 1;
export const PACKET_NEXT = 2;
export const PACKET_WORDS = 3;
