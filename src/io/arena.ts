/**
 * Memory that both sides see: JavaScript as a Uint8Array, the kernel by addresses. It is a WebAssembly memory,
 * because that never moves (its maximum is its initial size), comes zeroed and untouched from the system, and
 * lets WebAssembly code sum packets where they lie. Everything is allocated once at set-up; nothing is freed.
 */
import type { PacketMemory } from '../dataplane/ports.ts';
import { systemCalls } from './libc.ts';

const WASM_PAGE_BYTES = 65536;

export class Arena implements PacketMemory {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Address of byte 0. Below 2^47 on every Linux, so a number holds it exactly. */
  readonly base: number;
  #used = 0;

  constructor(size: number) {
    const pages = Math.ceil(size / WASM_PAGE_BYTES);
    this.memory = memoryWithinOneHighWord(pages);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.base = systemCalls().addressOf(this.bytes);
  }

  /** Reserves `size` bytes and returns their offset. */
  allocate(size: number, alignment = 8): number {
    const offset = Math.ceil(this.#used / alignment) * alignment;
    if (offset + size > this.bytes.length)
      throw new Error(`bug: arena of ${this.bytes.length} bytes has no ${size} left at ${offset}`);
    this.#used = offset + size;
    return offset;
  }

  /** Writes the address of `offset` at `at`, as the kernel reads pointers (little-endian, 64 bits). */
  writePointer(at: number, offset: number): void {
    const address = this.base + offset;
    this.view.setUint32(at, address >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  }
}

/**
 * A memory that does not cross a multiple of 4 GB, so that tables of pointers into it need only their lower
 * halves rewritten per packet. One try in a few hundred fails, and the next lies elsewhere.
 */
function memoryWithinOneHighWord(pages: number): WebAssembly.Memory {
  for (const kept: WebAssembly.Memory[] = []; ; ) {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const first = systemCalls().addressOf(new Uint8Array(memory.buffer));
    const last = first + pages * WASM_PAGE_BYTES - 1;
    if (Math.floor(first / 2 ** 32) === Math.floor(last / 2 ** 32)) return memory;
    kept.push(memory);
  }
}
