/**
 * The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.
 *
 * "Sum" is always the folded 16-bit sum, not complemented; "checksum" is what stands in the header. A
 * *partial* checksum (virtio-net's NEEDS_CSUM) is the sum of the pseudo-header alone: whoever finishes it adds
 * the bytes with that value left in place, and complements.
 */
import { readU16, writeU16 } from './bytes.ts';

/** Folds the carries of a 32-bit accumulator back in; twice, since the first fold may carry again. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/**
 * Sum of `length` bytes, carried on from `initial`. An odd last byte counts as the high half of a word.
 * Up to 65,535 bytes: 32,768 words of 65,535 and the initial value stay below 2^31, so that no fold is
 * needed on the way and the accumulator stays a small integer.
 */
export function sumBytes(view: Uint8Array, offset: number, length: number, initial: number): number {
  const end = offset + (length & ~1);
  let sum = initial;
  for (let i = offset; i < end; i += 2) sum += (view[i]! << 8) | view[i + 1]!;
  if ((length & 1) !== 0) sum += view[end]! << 8;
  return fold(sum);
}

/** The checksum of `length` bytes; 0 over bytes that hold their own, right checksum. */
export function checksum(view: Uint8Array, offset: number, length: number): number {
  return ~sumBytes(view, offset, length, 0) & 0xffff;
}

/** Sum of A followed by B from their own sums: after an odd A every word of B is shifted by a byte (RFC 1071 §2(B)). */
export function joinSums(sumA: number, lengthA: number, sumB: number): number {
  const b = (lengthA & 1) === 0 ? sumB : ((sumB & 0xff) << 8) | (sumB >>> 8);
  return fold(sumA + b);
}

/** Sum of the pseudo-header of TCP and UDP over IPv4 (RFC 793 §3.1, RFC 768). `length` is that of the L4 header and data. */
export function pseudoHeaderSum(
  source: number,
  destination: number,
  protocol: number,
  length: number,
): number {
  return fold(
    (source >>> 16) +
      (source & 0xffff) +
      (destination >>> 16) +
      (destination & 0xffff) +
      protocol +
      (length & 0xffff),
  );
}

/** RFC 1624 eqn. 3, HC' = ~(~HC + ~m + m'): the checksum after one 16-bit word changed. */
export function updateChecksum(check: number, oldWord: number, newWord: number): number {
  return ~fold((~check & 0xffff) + (~oldWord & 0xffff) + newWord) & 0xffff;
}

/** The same for a 32-bit field, such as an address, that lies on a word boundary. */
export function updateChecksum32(check: number, oldValue: number, newValue: number): number {
  return (
    ~fold(
      (~check & 0xffff) +
        (~(oldValue >>> 16) & 0xffff) +
        (~oldValue & 0xffff) +
        (newValue >>> 16) +
        (newValue & 0xffff),
    ) & 0xffff
  );
}

/** Whether the transport checksum at `checkOffset` is only the pseudo-header's sum, left for an offload to finish. */
export function isPartial(view: Uint8Array, checkOffset: number, pseudoSum: number): boolean {
  return readU16(view, checkOffset) === pseudoSum;
}

/** Where the checksum stands in a UDP header: the one transport whose 0 means "none". */
const UDP_CHECK_FIELD = 6;

/**
 * Finishes a partial checksum as an offload would: sums from the transport header at `start` to `end` with the
 * pseudo-header's sum in place, and stores the complement at `start + field`.
 */
export function completeChecksum(view: Uint8Array, start: number, field: number, end: number): void {
  const check = ~sumBytes(view, start, end - start, 0) & 0xffff;
  writeU16(view, start + field, check === 0 && field === UDP_CHECK_FIELD ? 0xffff : check);
}
