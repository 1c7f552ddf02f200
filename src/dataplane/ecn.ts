/**
 * Explicit congestion notification through the tunnel (RFC 6040), and DSCP, which is copied (RFC 2983 §3:
 * the uniform model, since both ends belong to one operator).
 */

/** The ECN field, the low two bits of the TOS byte (RFC 3168 §5). Note the order: ECT(1) is 1, ECT(0) is 2. */
export const NOT_ECT = 0;
export const ECT_1 = 1;
export const ECT_0 = 2;
export const CE = 3;
const ECN_MASK = 3;

/** What `decapsulatedTos` returns for a packet that RFC 6040 §4.2 says MUST be dropped. */
export const ECN_DROP = -1;

/**
 * RFC 6040 figure 4: row = inner, column = outer, both as Not-ECT, ECT(1), ECT(0), CE. The inner header is
 * never made more willing than its sender said: a Not-ECT packet that met congestion is dropped, as a
 * router would have done with it.
 */
const DECAPSULATED_ECN: readonly (readonly number[])[] = [
  /* Not-ECT */ [NOT_ECT, NOT_ECT, NOT_ECT, ECN_DROP],
  /* ECT(1)  */ [ECT_1, ECT_1, ECT_1, CE],
  /* ECT(0)  */ [ECT_0, ECT_1, ECT_0, CE],
  /* CE      */ [CE, CE, CE, CE],
];

/** The same, flat: one load in the packets' way. */
const TABLE = Int8Array.from(DECAPSULATED_ECN.flat());

/** Outer TOS for an inner one: DSCP copied, ECN copied, CE too ("normal mode", RFC 6040 §4.1). */
export function encapsulatedTos(innerTos: number): number {
  return innerTos;
}

/** Inner TOS after decapsulation (DSCP stays the inner one), or ECN_DROP. */
export function decapsulatedTos(innerTos: number, outerTos: number): number {
  const ecn = TABLE[((innerTos & ECN_MASK) << 2) | (outerTos & ECN_MASK)]!;
  return ecn < 0 ? ECN_DROP : (innerTos & ~ECN_MASK) | ecn;
}
