/**
 * Captures as pcapng files (draft-ietf-opsawg-pcapng), which Wireshark and tcpdump open: one section, an
 * interface block for each link, nanosecond timestamps, comments on packets. Little-endian when written;
 * both byte orders when read.
 */

const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_SIMPLE_PACKET = 3;
const BLOCK_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

const OPTION_END = 0;
const OPTION_COMMENT = 1;
const OPTION_SECTION_APPLICATION = 4;
const OPTION_INTERFACE_NAME = 2;
const OPTION_INTERFACE_DESCRIPTION = 3;
const OPTION_INTERFACE_RESOLUTION = 9;
const OPTION_PACKET_FLAGS = 2;

/** Link types of the pcap registry. */
export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;

const SNAP_LENGTH = 262_144;
/** A reader that believes a length of gigabytes has been lied to. */
const MAX_BLOCK_BYTES = 16 << 20;

export interface CaptureInterface {
  readonly name: string;
  readonly description?: string;
  readonly linkType: number;
}

export interface CapturedPacket {
  /** Index into the interfaces of the capture. */
  readonly interfaceIndex: number;
  /** Nanoseconds since the epoch. */
  readonly timestampNs: bigint;
  readonly bytes: Uint8Array;
  /** Length on the link where more than `bytes` was there. */
  readonly originalLength?: number;
  readonly direction?: 'inbound' | 'outbound';
  readonly comment?: string;
}

export interface CaptureFile {
  readonly interfaces: readonly CaptureInterface[];
  readonly packets: readonly CapturedPacket[];
  /** The file ends within a block: its writer was still at work, or died. */
  readonly truncated: boolean;
}

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

function textOption(code: number, text: string): Option {
  return { code, value: new TextEncoder().encode(text) };
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

function optionsBytes(options: readonly Option[]): number {
  if (options.length === 0) return 0;
  return options.reduce((sum, option) => sum + 4 + padded(option.value.length), 4);
}

/** A block around `fixed` (a multiple of four bytes), `data` and options; its length stands at both ends. */
function block(type: number, fixed: Uint8Array, data: Uint8Array, options: readonly Option[]): Uint8Array {
  const total = 12 + fixed.length + padded(data.length) + optionsBytes(options);
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, total, true);
  bytes.set(fixed, 8);
  bytes.set(data, 8 + fixed.length);
  let at = 8 + fixed.length + padded(data.length);
  for (const option of options) {
    view.setUint16(at, option.code, true);
    view.setUint16(at + 2, option.value.length, true);
    bytes.set(option.value, at + 4);
    at += 4 + padded(option.value.length);
  }
  view.setUint32(total - 4, total, true);
  return bytes;
}

function fixedFields(length: number, fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(length);
  fill(new DataView(bytes.buffer));
  return bytes;
}

/** How a file begins: the section's header and a block for each interface. Packet blocks may follow at once or later. */
export function pcapngHeader(interfaces: readonly CaptureInterface[], application: string): Uint8Array {
  const section = fixedFields(16, (view) => {
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    view.setBigInt64(8, -1n, true); // section length: not known in advance
  });
  const empty = new Uint8Array(0);
  const blocks = [
    block(BLOCK_SECTION, section, empty, [textOption(OPTION_SECTION_APPLICATION, application)]),
  ];
  for (const link of interfaces) {
    const fixed = fixedFields(8, (view) => {
      view.setUint16(0, link.linkType, true);
      view.setUint32(4, SNAP_LENGTH, true);
    });
    const options = [textOption(OPTION_INTERFACE_NAME, link.name)];
    if (link.description !== undefined)
      options.push(textOption(OPTION_INTERFACE_DESCRIPTION, link.description));
    options.push({ code: OPTION_INTERFACE_RESOLUTION, value: Uint8Array.of(9) }); // 10^-9 s
    blocks.push(block(BLOCK_INTERFACE, fixed, empty, options));
  }
  return concatenate(blocks);
}

/** One packet, to be appended to a file that begins with `pcapngHeader`. */
export function pcapngPacket(packet: CapturedPacket): Uint8Array {
  const fixed = fixedFields(20, (view) => {
    view.setUint32(0, packet.interfaceIndex, true);
    view.setUint32(4, Number(packet.timestampNs >> 32n), true);
    view.setUint32(8, Number(packet.timestampNs & 0xffff_ffffn), true);
    view.setUint32(12, packet.bytes.length, true);
    view.setUint32(16, packet.originalLength ?? packet.bytes.length, true);
  });
  const options: Option[] = [];
  if (packet.comment !== undefined) options.push(textOption(OPTION_COMMENT, packet.comment));
  if (packet.direction !== undefined) {
    const value = fixedFields(4, (view) => view.setUint32(0, packet.direction === 'inbound' ? 1 : 2, true));
    options.push({ code: OPTION_PACKET_FLAGS, value });
  }
  return block(BLOCK_PACKET, fixed, packet.bytes, options);
}

/** A whole file. */
export function writePcapng(
  interfaces: readonly CaptureInterface[],
  packets: readonly CapturedPacket[],
  application: string,
): Uint8Array {
  return concatenate([pcapngHeader(interfaces, application), ...packets.map(pcapngPacket)]);
}

function concatenate(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

interface ReadInterface extends CaptureInterface {
  /** Nanoseconds are `ticks * numerator / denominator`. */
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** What one section has told so far. */
interface Section {
  littleEndian: boolean;
  interfaces: ReadInterface[];
}

/** Reads a file; the reason where it is none. Blocks of other types are skipped, as the format asks. */
export function readPcapng(
  bytes: Uint8Array,
): { ok: true; file: CaptureFile } | { ok: false; problem: string } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || view.getUint32(0) !== BLOCK_SECTION)
    return { ok: false, problem: 'not a pcapng file: it does not begin with a section header block' };
  const section: Section = { littleEndian: true, interfaces: [] };
  const packets: CapturedPacket[] = [];
  let at = 0;
  while (at + 12 <= bytes.length) {
    if (view.getUint32(at) === BLOCK_SECTION) {
      const littleEndian = view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC;
      if (!littleEndian && view.getUint32(at + 8) !== BYTE_ORDER_MAGIC)
        return { ok: false, problem: `bad byte-order magic at byte ${at + 8}` };
      if (at > 0) return { ok: false, problem: `a second section begins at byte ${at}; expected one` };
      section.littleEndian = littleEndian;
    }
    const total = view.getUint32(at + 4, section.littleEndian);
    if (total < 12 || total % 4 !== 0 || total > MAX_BLOCK_BYTES)
      return { ok: false, problem: `bad block length ${total} at byte ${at + 4}` };
    if (at + total > bytes.length) break;
    const problem = readBlock(view, at, total, section, packets);
    if (problem !== undefined) return { ok: false, problem: `${problem} in the block at byte ${at}` };
    at += total;
  }
  const interfaces = section.interfaces.map(({ name, description, linkType }) => ({
    name,
    linkType,
    ...(description === undefined ? {} : { description }),
  }));
  return { ok: true, file: { interfaces, packets, truncated: at < bytes.length } };
}

function readBlock(
  view: DataView,
  at: number,
  total: number,
  section: Section,
  packets: CapturedPacket[],
): string | undefined {
  const type = view.getUint32(at, section.littleEndian);
  const end = at + total - 4;
  if (type === BLOCK_SIMPLE_PACKET) return 'a simple packet block, which has no timestamp,';
  if (type === BLOCK_INTERFACE) {
    if (total < 20) return 'an interface block that is too short';
    section.interfaces.push(readInterface(view, at, end, section.littleEndian));
  }
  if (type === BLOCK_PACKET) {
    const packet = total < 32 ? undefined : readPacket(view, at, end, section);
    if (packet === undefined) return 'a packet that its block or interface does not hold';
    packets.push(packet);
  }
  return undefined;
}

function readOptions(
  view: DataView,
  from: number,
  end: number,
  littleEndian: boolean,
): Map<number, DataView> {
  const options = new Map<number, DataView>();
  let at = from;
  while (at + 4 <= end) {
    const code = view.getUint16(at, littleEndian);
    const length = view.getUint16(at + 2, littleEndian);
    if (code === OPTION_END || at + 4 + length > end) break;
    options.set(code, new DataView(view.buffer, view.byteOffset + at + 4, length));
    at += 4 + padded(length);
  }
  return options;
}

function text(option: DataView | undefined): string | undefined {
  return option && new TextDecoder().decode(option);
}

function readInterface(view: DataView, at: number, end: number, littleEndian: boolean): ReadInterface {
  const options = readOptions(view, at + 16, end, littleEndian);
  const description = text(options.get(OPTION_INTERFACE_DESCRIPTION));
  const resolution = options.get(OPTION_INTERFACE_RESOLUTION);
  // Bit 7 chooses the base: 2 or 10. Microseconds unless said otherwise.
  const code = resolution && resolution.byteLength > 0 ? resolution.getUint8(0) : 6;
  const perSecond = (code & 0x80 ? 2n : 10n) ** BigInt(code & 0x7f);
  return {
    name: text(options.get(OPTION_INTERFACE_NAME)) ?? '',
    linkType: view.getUint16(at + 8, littleEndian),
    ...(description === undefined ? {} : { description }),
    numerator: 1_000_000_000n,
    denominator: perSecond,
  };
}

function readPacket(view: DataView, at: number, end: number, section: Section): CapturedPacket | undefined {
  const little = section.littleEndian;
  const interfaceIndex = view.getUint32(at + 8, little);
  const link = section.interfaces[interfaceIndex];
  const captured = view.getUint32(at + 20, little);
  const originalLength = view.getUint32(at + 24, little);
  if (link === undefined || at + 28 + captured > end) return undefined;
  const ticks = (BigInt(view.getUint32(at + 12, little)) << 32n) | BigInt(view.getUint32(at + 16, little));
  const options = readOptions(view, at + 28 + padded(captured), end, little);
  const comment = text(options.get(OPTION_COMMENT));
  const flags = options.get(OPTION_PACKET_FLAGS);
  const way = flags && flags.byteLength === 4 ? flags.getUint32(0, little) & 3 : 0;
  const start = view.byteOffset + at + 28;
  return {
    interfaceIndex,
    timestampNs: (ticks * link.numerator) / link.denominator,
    bytes: new Uint8Array(view.buffer.slice(start, start + captured) as ArrayBuffer),
    ...(originalLength === captured ? {} : { originalLength }),
    ...(way === 1 ? { direction: 'inbound' as const } : way === 2 ? { direction: 'outbound' as const } : {}),
    ...(comment === undefined ? {} : { comment }),
  };
}
