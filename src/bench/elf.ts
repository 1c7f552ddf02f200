/**
 * Reads what `clang -target bpf` writes, as far as our loader needs it: a section's instructions, and which of them
 * want which map. A relocatable ELF file of 64 bits, little-endian (System V gABI, chapter 4).
 */
import { FailedError } from '../base/errors.ts';
import { type AssembledProgram, SLOT_BYTES } from '../ebpf/assembler.ts';

/** Offsets in the file's header. */
const SECTIONS_AT = 40;
const SECTION_BYTES = 58;
const SECTION_COUNT = 60;
const SECTION_OF_NAMES = 62;
/** Kinds of sections. */
const SYMBOLS = 2;
const RELOCATIONS = 9;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 16;
/** A 64-bit constant whose source register says that it is a map's descriptor. */
const LOAD_64_BITS = 0x18;
const MAP_DESCRIPTOR = 1 << 4;

interface Section {
  readonly name: string;
  readonly kind: number;
  readonly offset: number;
  readonly bytes: number;
  /** Of relocations: the section that they are about. */
  readonly about: number;
}

/** The instructions of a section; symbols that they refer to are names of maps. */
export function programOf(file: Uint8Array, sectionName: string): AssembledProgram {
  const sections = sectionsOf(file);
  const index = sections.findIndex(({ name }) => name === sectionName);
  const section = sections[index];
  if (!section)
    throw new FailedError('ERR_BENCH', `no section ${sectionName}: ${sections.map((s) => s.name).join(' ')}`);
  const slots = Uint8Array.from(file.subarray(section.offset, section.offset + section.bytes));
  const relocations = sections
    .filter(({ kind, about }) => kind === RELOCATIONS && about === index)
    .flatMap((table) => relocationsOf(file, table, sections));
  for (const { slot, map } of relocations) {
    if (slots[slot * SLOT_BYTES] !== LOAD_64_BITS)
      throw new FailedError('ERR_BENCH', `${sectionName}: ${map} is used as other than a map`);
    slots[slot * SLOT_BYTES + 1]! |= MAP_DESCRIPTOR;
  }
  const lines = Array.from({ length: slots.length / SLOT_BYTES }, (_, slot) => ({
    text: `slot ${slot}`,
    label: sectionName,
    place: 'the C source',
  }));
  return { name: `clang_${sectionName}`, slots, lines, relocations };
}

function sectionsOf(file: Uint8Array): Section[] {
  const view = viewOf(file);
  const bytes = view.getUint16(SECTION_BYTES, true);
  const at = (index: number) => Number(view.getBigUint64(SECTIONS_AT, true)) + index * bytes;
  const offset = (index: number) => Number(view.getBigUint64(at(index) + 24, true));
  const names = offset(view.getUint16(SECTION_OF_NAMES, true));
  return Array.from({ length: view.getUint16(SECTION_COUNT, true) }, (_, i) => ({
    name: textAt(file, names + view.getUint32(at(i), true)),
    kind: view.getUint32(at(i) + 4, true),
    offset: offset(i),
    bytes: Number(view.getBigUint64(at(i) + 32, true)),
    about: view.getUint32(at(i) + 44, true),
  }));
}

function relocationsOf(
  file: Uint8Array,
  table: Section,
  sections: readonly Section[],
): AssembledProgram['relocations'] {
  const view = viewOf(file);
  const symbols = sections.find(({ kind }) => kind === SYMBOLS)!;
  const names = sections.find(({ name }) => name === '.strtab')!;
  return Array.from({ length: table.bytes / RELOCATION_BYTES }, (_, i) => {
    const at = table.offset + i * RELOCATION_BYTES;
    const symbol = view.getUint32(at + 12, true);
    const name = view.getUint32(symbols.offset + symbol * SYMBOL_BYTES, true);
    return {
      slot: Number(view.getBigUint64(at, true)) / SLOT_BYTES,
      map: textAt(file, names.offset + name),
    };
  });
}

function textAt(file: Uint8Array, at: number): string {
  return new TextDecoder().decode(file.subarray(at, file.indexOf(0, at)));
}

const viewOf = (file: Uint8Array) => new DataView(file.buffer, file.byteOffset, file.byteLength);
