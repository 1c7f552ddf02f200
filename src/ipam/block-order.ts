/**
 * In which order a node looks for a block in a pool: from a start that its name decides, around the pool once.
 * Nodes that start at the same moment thus try different blocks first; compare-and-swap settles the rest.
 */
import { type Prefix, prefixOf } from '../ip/prefix.ts';

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  // FNV-1a leaves names that differ in their last character close together; one more mix spreads them.
  value = Math.imul(value ^ (value >>> 16), 0x45d9f3b) >>> 0;
  return (value ^ (value >>> 16)) >>> 0;
}

/** Every block of the pool, each once. */
export function* blocksInOrder(pool: Prefix, blockLength: number, node: string): Generator<Prefix> {
  const count = 2 ** (blockLength - pool.length);
  const blockSize = 2 ** (32 - blockLength);
  const start = hash(node) % count;
  for (let step = 0; step < count; step++)
    yield prefixOf(pool.address + ((start + step) % count) * blockSize, blockLength);
}
