/**
 * The Internet sum over payload by 128-bit WebAssembly, for packets that lie in a WebAssembly memory: 27 times as
 * fast as the loop of checksum.ts, which is its slow twin (1,428 bytes: 37 ns against 1,014; Node 20, one core of a
 * shared x86-64 machine).
 *
 * The module is assembled here, byte by byte, so that no compiler is needed and nobody has to trust a blob.
 * As text it reads:
 *
 *   (func (export "sum") (param $at i32) (param $length i32) (param $initial i32) (result i32)
 *     blocks of 64 bytes, then of 16: each 16-byte load is eight 16-bit words, made signed by turning their upper bit; the
 *     dot product with ones adds pairs of them into four 32-bit lanes, so that 65,535 bytes cannot overflow a lane
 *     (4,096 loads x 65,536 < 2^31)
 *     the four lanes of all accumulators are added, and 32,768 for each word; then word by word what is left, then an odd byte
 *     fold; swap the bytes; add $initial; fold)
 *
 * Signed, because processors have one instruction for a dot product of signed words (pmaddwd), and none for unsigned ones: 186 ns
 * for 8,929 bytes where pairwise addition of unsigned words took 241, and 169 in C.
 *
 * Words are loaded little-endian and the sum is swapped at the end: RFC 1071 §2(B), the sum of swapped words is
 * the swapped sum. An odd last byte is then the low half, as it must be.
 */

/** Numbers of the WebAssembly binary format that we use, by their names in its text format. */
const OP = {
  block: [0x02, 0x40],
  loop: [0x03, 0x40],
  if: [0x04, 0x40],
  end: [0x0b],
  br: (depth: number) => [0x0c, depth],
  brIf: (depth: number) => [0x0d, depth],
  get: (local: number) => [0x20, local],
  set: (local: number) => [0x21, local],
  i32Load8: [0x2d, 0, 0],
  i32Load16: [0x2f, 0, 0],
  i32Const: (value: number) => [0x41, ...signedLeb(value)],
  i32LessThanUnsigned: [0x49],
  i32GreaterOrEqualUnsigned: [0x4f],
  i32Add: [0x6a],
  i32Subtract: [0x6b],
  i32And: [0x71],
  i32Or: [0x72],
  i32ShiftLeft: [0x74],
  i32ShiftRightUnsigned: [0x76],
  v128Load: (offset: number) => [0xfd, 0x00, 0, offset],
  i32x4ExtractLane: (lane: number) => [0xfd, 0x1b, lane],
  i32x4Splat: [0xfd, 0x11],
  v128Xor: [0xfd, 0x51],
  i32x4DotI16: [0xfd, 0xba, 0x01],
  i32x4Add: [0xfd, 0xae, 0x01],
} as const;

const TYPE_I32 = 0x7f;
const TYPE_V128 = 0x7b;
const TYPE_FUNCTION = 0x60;

function signedLeb(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const done = (value === 0 && (low & 0x40) === 0) || (value === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

function unsignedLeb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsignedLeb(value >>> 7)];
}

/** Locals: the parameters, then ours. */
const AT = 0;
const LENGTH = 1;
const INITIAL = 2;
const END = 3;
const SUM = 4;
/** Of 128 bits: an accumulator for each load of a block, so that none waits for the one before; the words' upper bits; ones. */
const ACCUMULATORS = [5, 6, 7, 8] as const;
const UPPER_BITS = 9;
const ONES = 10;
const LOAD_BYTES = 16;
const BLOCK_BYTES = LOAD_BYTES * ACCUMULATORS.length;

/** `accumulator += the eight words at AT + offset, less 32,768 each, in pairs` */
function addWords(accumulator: number, offset: number): number[] {
  return [
    ...OP.get(accumulator),
    ...[...OP.get(AT), ...OP.v128Load(offset), ...OP.get(UPPER_BITS), ...OP.v128Xor],
    ...[...OP.get(ONES), ...OP.i32x4DotI16, ...OP.i32x4Add],
    ...OP.set(accumulator),
  ];
}

/** `local += amount` */
function advance(local: number, amount: number): number[] {
  return [...OP.get(local), ...OP.i32Const(amount), ...OP.i32Add, ...OP.set(local)];
}

/** `SUM = (SUM & 0xffff) + (SUM >>> 16)` */
const FOLD = [
  ...[...OP.get(SUM), ...OP.i32Const(0xffff), ...OP.i32And],
  ...[...OP.get(SUM), ...OP.i32Const(16), ...OP.i32ShiftRightUnsigned],
  ...[...OP.i32Add, ...OP.set(SUM)],
];

/** Runs `body`, which moves AT, until AT has moved by LENGTH & mask. */
function whileWhole(mask: number, body: readonly number[]): number[] {
  return [
    ...[...OP.get(AT), ...OP.get(LENGTH), ...OP.i32Const(mask), ...OP.i32And, ...OP.i32Add, ...OP.set(END)],
    ...[...OP.block, ...OP.loop],
    ...[...OP.get(AT), ...OP.get(END), ...OP.i32GreaterOrEqualUnsigned, ...OP.brIf(1)],
    ...body,
    ...[...OP.br(0), ...OP.end, ...OP.end],
  ];
}

const WHOLE_LOADS = [
  ...[...OP.i32Const(0x80008000 | 0), ...OP.i32x4Splat, ...OP.set(UPPER_BITS)],
  ...[...OP.i32Const(0x00010001), ...OP.i32x4Splat, ...OP.set(ONES)],
  ...whileWhole(-BLOCK_BYTES, [
    ...ACCUMULATORS.flatMap((accumulator, i) => addWords(accumulator, i * LOAD_BYTES)),
    ...advance(AT, BLOCK_BYTES),
  ]),
  ...whileWhole(BLOCK_BYTES - LOAD_BYTES, [...addWords(ACCUMULATORS[0], 0), ...advance(AT, LOAD_BYTES)]),
];

const ALL = ACCUMULATORS[0];
/** SUM = the lanes of all accumulators + 32,768 for each word of the loads, which are 2 bytes: bytes << 14. */
const ADD_LANES = [
  ...ACCUMULATORS.slice(1).flatMap((one) => [
    ...[...OP.get(ALL), ...OP.get(one), ...OP.i32x4Add, ...OP.set(ALL)],
  ]),
  ...[...OP.get(LENGTH), ...OP.i32Const(-LOAD_BYTES), ...OP.i32And, ...OP.i32Const(14), ...OP.i32ShiftLeft],
  ...[0, 1, 2, 3].flatMap((lane) => [...OP.get(ALL), ...OP.i32x4ExtractLane(lane), ...OP.i32Add]),
  ...OP.set(SUM),
];

const REST = [
  ...[...OP.get(LENGTH), ...OP.i32Const(LOAD_BYTES - 1), ...OP.i32And, ...OP.set(LENGTH)],
  ...[...OP.block, ...OP.loop],
  ...[...OP.get(LENGTH), ...OP.i32Const(2), ...OP.i32LessThanUnsigned, ...OP.brIf(1)],
  ...[...OP.get(SUM), ...OP.get(AT), ...OP.i32Load16, ...OP.i32Add, ...OP.set(SUM)],
  ...advance(AT, 2),
  ...[...OP.get(LENGTH), ...OP.i32Const(2), ...OP.i32Subtract, ...OP.set(LENGTH)],
  ...[...OP.br(0), ...OP.end, ...OP.end],
  ...[...OP.get(LENGTH), ...OP.if],
  ...[...OP.get(SUM), ...OP.get(AT), ...OP.i32Load8, ...OP.i32Add, ...OP.set(SUM)],
  ...OP.end,
];

const SWAP_AND_ADD_INITIAL = [
  ...[...OP.get(SUM), ...OP.i32Const(8), ...OP.i32ShiftLeft, ...OP.i32Const(0xff00), ...OP.i32And],
  ...[...OP.get(SUM), ...OP.i32Const(8), ...OP.i32ShiftRightUnsigned, ...OP.i32Or],
  ...[...OP.get(INITIAL), ...OP.i32Add, ...OP.set(SUM)],
];

const BODY = [
  ...WHOLE_LOADS,
  ...ADD_LANES,
  ...REST,
  ...FOLD,
  ...FOLD,
  ...SWAP_AND_ADD_INITIAL,
  ...FOLD,
  ...FOLD,
  ...OP.get(SUM),
  ...OP.end,
];

function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsignedLeb(content.length), ...content];
}

function name(text: string): number[] {
  return [text.length, ...Buffer.from(text)];
}

/** The module: imports `arena.memory`, exports `sum`. */
export function assembleSumModule(): Uint8Array<ArrayBuffer> {
  const locals = [2, 2, TYPE_I32, ACCUMULATORS.length + 2, TYPE_V128];
  const code = [...locals, ...BODY];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...section(1, [1, TYPE_FUNCTION, 3, TYPE_I32, TYPE_I32, TYPE_I32, 1, TYPE_I32]),
    ...section(2, [1, ...name('arena'), ...name('memory'), 2, 0, 1]), // a memory of at least one page
    ...section(3, [1, 0]), // one function, of type 0
    ...section(7, [1, ...name('sum'), 0, 0]),
    ...section(10, [1, ...unsignedLeb(code.length), ...code]),
  ]);
}

/** Like `sumBytes`, over offsets of `memory`; undefined where the processor has no 128-bit integers (x86 before SSE4.1). */
export function arenaSum(
  memory: WebAssembly.Memory,
): ((offset: number, length: number, initial: number) => number) | undefined {
  let module: WebAssembly.Module;
  try {
    module = new WebAssembly.Module(assembleSumModule());
  } catch {
    return undefined;
  }
  const { exports } = new WebAssembly.Instance(module, { arena: { memory } });
  return exports.sum as (offset: number, length: number, initial: number) => number;
}
