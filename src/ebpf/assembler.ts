/**
 * Theory of operation of ebpf/: two small programs that carry protocol 4 inside the kernel, assembled here.
 *
 *   assembler          (this file) instructions with names, labels and maps -> the kernel's 8-byte slots
 *   verifier-error     what the kernel's verifier says of a program -> an error that names our source line
 *   outbound-program   tunl0's egress: encapsulate and send by the underlay; inbound-program: the way back
 *   outbound-twin, inbound-twin   the same decisions in plain TypeScript: what the programs must do
 *   layout             maps, their keys and values, counters: what the programs and we agree on
 *   fast-tables        ForwardingConfig and its changes -> entries of the maps
 *
 * Everything here is pure: io/bpf.ts makes the calls, agent/fast-path.ts puts it together. The programs only take
 * packets whose fate is certain, and never drop: whatever else there is goes on to the slow path (the TUN's reader,
 * the raw socket), which decides and counts as if there were no programs.
 *
 * eBPF in six lines (RFC 9669): registers R0 to R10 of 64 bits. R1 to R5 are arguments of a call and lost by it, R0
 * is its result, R6 to R9 survive it, R10 is the top of a stack of 512 bytes and is only read. An instruction is a
 * slot {opcode u8, destination and source u4, offset s16, immediate s32}; loading a 64-bit constant takes two slots.
 * Jumps count slots from the next one. Maps appear as descriptors in such constants: filled in by `link`.
 */

export interface Register {
  readonly register: number;
}

const register = (number: number): Register => ({ register: number });
export const R0 = register(0);
export const R1 = register(1);
export const R2 = register(2);
export const R3 = register(3);
export const R4 = register(4);
export const R5 = register(5);
export const R6 = register(6);
export const R7 = register(7);
export const R8 = register(8);
export const R9 = register(9);
/** The frame: the stack lies below it. */
export const R10 = register(10);

export type Operand = Register | number;

/** Widths of loads and stores, and their bits of the opcode. */
const WIDTHS = { u8: 0x10, u16: 0x08, u32: 0x00, u64: 0x18 } as const;
export type Width = keyof typeof WIDTHS;

/** Arithmetic on 64 bits; division by zero gives zero. */
const ARITHMETIC = {
  '+=': 0x00,
  '-=': 0x10,
  '*=': 0x20,
  '/=': 0x30,
  '|=': 0x40,
  '&=': 0x50,
  '<<=': 0x60,
  '>>=': 0x70,
  '=': 0xb0,
} as const;
export type Arithmetic = keyof typeof ARITHMETIC;

/** Comparisons of 64 bits without a sign; `&` holds where the two have a bit in common. */
const COMPARISONS = {
  '==': 0x10,
  '>': 0x20,
  '>=': 0x30,
  '&': 0x40,
  '!=': 0x50,
  '<': 0xa0,
  '<=': 0xb0,
} as const;
export type Comparison = keyof typeof COMPARISONS;

const CLASS_LDX = 0x01;
const CLASS_ST = 0x02;
const CLASS_STX = 0x03;
const CLASS_JUMP = 0x05;
const CLASS_ALU64 = 0x07;
const MODE_MEMORY = 0x60;
const SOURCE_REGISTER = 0x08;
const LOAD_64_BITS = 0x18;
const PSEUDO_MAP_DESCRIPTOR = 1;
const TO_BIG_ENDIAN = 0xdc;
const JUMP_ALWAYS = 0x05;
const CALL = 0x85;
const EXIT = 0x95;
export const SLOT_BYTES = 8;

/** What one slot came from, for people. */
export interface SourceLine {
  /** As a listing shows it: `r1 = *(u32 *)(r6 + 0)`. */
  readonly text: string;
  /** The last label before it. */
  readonly label: string;
  /** File and line of the program's source that wrote it. */
  readonly place: string;
}

export interface AssembledProgram {
  readonly name: string;
  readonly slots: Uint8Array;
  /** One for each slot. */
  readonly lines: readonly SourceLine[];
  /** Slots whose immediate is the descriptor of a map. */
  readonly relocations: readonly { readonly slot: number; readonly map: string }[];
}

export class Assembler {
  readonly #name: string;
  readonly #words: { opcode: number; registers: number; offset: number; immediate: number }[] = [];
  readonly #lines: SourceLine[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { slot: number; label: string; place: string }[] = [];
  readonly #relocations: { slot: number; map: string }[] = [];
  #label = 'start';

  constructor(name: string) {
    this.#name = name;
  }

  /** Marks the next instruction as a jump's target. */
  label(name: string): void {
    if (this.#labels.has(name)) throw new Error(`bug: ${this.#name} has the label ${name} twice`);
    this.#labels.set(name, this.#words.length);
    this.#label = name;
  }

  /** `let(R1, '+=', 20)`: R1 += 20. Numbers are signed 32 bits, extended to 64. */
  let(destination: Register, operator: Arithmetic, operand: Operand): void {
    const [source, immediate] = split(operand);
    const opcode = CLASS_ALU64 | ARITHMETIC[operator] | (source === null ? 0 : SOURCE_REGISTER);
    this.#emit(
      opcode,
      destination,
      source,
      0,
      immediate,
      `${show(destination)} ${operator} ${show(operand)}`,
    );
  }

  /** Exchanges bytes so that a value of `bits` bits lies in memory big-endian, or comes from such memory. */
  bigEndian(destination: Register, bits: 16 | 32): void {
    this.#emit(
      TO_BIG_ENDIAN,
      destination,
      null,
      0,
      bits,
      `${show(destination)} = be${bits} ${show(destination)}`,
    );
  }

  /** destination = *(width *)(base + offset) */
  load(width: Width, destination: Register, base: Register, offset: number): void {
    const text = `${show(destination)} = ${memory(width, base, offset)}`;
    this.#emit(CLASS_LDX | MODE_MEMORY | WIDTHS[width], destination, base, offset, 0, text);
  }

  /** *(width *)(base + offset) = operand */
  store(width: Width, base: Register, offset: number, operand: Operand): void {
    const [source, immediate] = split(operand);
    const kind = source === null ? CLASS_ST : CLASS_STX;
    const text = `${memory(width, base, offset)} = ${show(operand)}`;
    this.#emit(kind | MODE_MEMORY | WIDTHS[width], base, source, offset, immediate, text);
  }

  jump(label: string): void {
    this.#jumpTo(label);
    this.#emit(JUMP_ALWAYS, R0, null, 0, 0, `goto ${label}`);
  }

  jumpIf(left: Register, comparison: Comparison, right: Operand, label: string): void {
    this.#jumpTo(label);
    const [source, immediate] = split(right);
    const opcode = CLASS_JUMP | COMPARISONS[comparison] | (source === null ? 0 : SOURCE_REGISTER);
    const text = `if ${show(left)} ${comparison} ${show(right)} goto ${label}`;
    this.#emit(opcode, left, source, 0, immediate, text);
  }

  /** destination = the map of this name, as helpers take it. */
  map(destination: Register, name: string): void {
    this.#relocations.push({ slot: this.#words.length, map: name });
    const text = `${show(destination)} = map ${name}`;
    this.#emit(LOAD_64_BITS, destination, register(PSEUDO_MAP_DESCRIPTOR), 0, 0, text);
    this.#words.push({ opcode: 0, registers: 0, offset: 0, immediate: 0 });
    this.#lines.push(this.#lines.at(-1)!);
  }

  /** Calls a helper of the kernel by its number; R1 to R5 are its arguments, R0 its result. */
  call(helper: number, name: string): void {
    this.#emit(CALL, R0, null, 0, helper, `call ${name}`);
  }

  exit(): void {
    this.#emit(EXIT, R0, null, 0, 0, 'exit');
  }

  /** Resolves the labels. Maps are still to be linked. */
  assemble(): AssembledProgram {
    for (const { slot, label, place } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined)
        throw new Error(`bug: ${this.#name} has no label ${label}, wanted at ${place}`);
      this.#words[slot]!.offset = target - slot - 1;
    }
    const slots = new Uint8Array(this.#words.length * SLOT_BYTES);
    const view = new DataView(slots.buffer);
    this.#words.forEach(({ opcode, registers, offset, immediate }, i) => {
      view.setUint8(i * SLOT_BYTES, opcode);
      view.setUint8(i * SLOT_BYTES + 1, registers);
      view.setInt16(i * SLOT_BYTES + 2, offset, true);
      view.setInt32(i * SLOT_BYTES + 4, immediate, true);
    });
    return { name: this.#name, slots, lines: this.#lines, relocations: this.#relocations };
  }

  #jumpTo(label: string): void {
    this.#jumps.push({ slot: this.#words.length, label, place: callerPlace() });
  }

  #emit(
    opcode: number,
    destination: Register,
    source: Register | null,
    offset: number,
    immediate: number,
    text: string,
  ): void {
    const registers = destination.register | ((source?.register ?? 0) << 4);
    this.#words.push({ opcode, registers, offset, immediate });
    this.#lines.push({ text, label: this.#label, place: callerPlace() });
  }
}

/** The slots with the maps' descriptors filled in. */
export function link(program: AssembledProgram, descriptors: Readonly<Record<string, number>>): Uint8Array {
  const slots = program.slots.slice();
  const view = new DataView(slots.buffer);
  for (const { slot, map } of program.relocations) {
    const descriptor = descriptors[map];
    if (descriptor === undefined)
      throw new Error(`bug: ${program.name} uses the map ${map}, which nobody made`);
    view.setInt32(slot * SLOT_BYTES + 4, descriptor, true);
  }
  return slots;
}

/** The program as people read it: slot, instruction, and where labels are. */
export function listing(program: AssembledProgram): string {
  let label = '';
  return program.lines
    .map((line, slot) => {
      const heading = line.label === label ? '' : `${line.label}:\n`;
      label = line.label;
      return program.lines[slot - 1] === line ? '' : `${heading}${String(slot).padStart(5)}  ${line.text}\n`;
    })
    .join('');
}

function split(operand: Operand): [source: Register | null, immediate: number] {
  return typeof operand === 'number' ? [null, operand | 0] : [operand, 0];
}

function show(operand: Operand): string {
  return typeof operand === 'number' ? String(operand) : `r${operand.register}`;
}

function memory(width: Width, base: Register, offset: number): string {
  return `*(${width} *)(${show(base)} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)})`;
}

/** File and line of the first caller outside this file. Slow, and only at load. */
function callerPlace(): string {
  const frames = (new Error().stack ?? '').split('\n').slice(1);
  const frame = frames.find((line) => !/[/\\]assembler\.[jt]s/.test(line)) ?? '';
  const match = /([^/\\(]+\.[jt]s):(\d+)/.exec(frame);
  return match ? `${match[1]}:${match[2]}` : 'an unknown place';
}
