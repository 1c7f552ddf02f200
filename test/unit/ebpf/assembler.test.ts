/** The assembler against instructions as RFC 9669 and the kernel's own headers encode them. */
import { expect, test } from 'vitest';
import { Assembler, link, listing, R0, R1, R2, R6, R10 } from '../../../src/ebpf/assembler.ts';
import { inboundProgram } from '../../../src/ebpf/inbound-program.ts';
import { outboundProgram } from '../../../src/ebpf/outbound-program.ts';
import { verifierError } from '../../../src/ebpf/verifier-error.ts';

function encoded(write: (a: Assembler) => void): string[] {
  const a = new Assembler('test');
  write(a);
  const hex = Buffer.from(a.assemble().slots).toString('hex');
  return hex.match(/.{16}/g) ?? [];
}

test.each([
  ['r1 = 5', (a: Assembler) => a.let(R1, '=', 5), 'b701000005000000'],
  ['r6 = r1', (a: Assembler) => a.let(R6, '=', R1), 'bf16000000000000'],
  ['r2 += -20', (a: Assembler) => a.let(R2, '+=', -20), '07020000ecffffff'],
  ['r1 /= r2', (a: Assembler) => a.let(R1, '/=', R2), '3f21000000000000'],
  ['r1 >>= 16', (a: Assembler) => a.let(R1, '>>=', 16), '7701000010000000'],
  ['be16 r1', (a: Assembler) => a.bigEndian(R1, 16), 'dc01000010000000'],
  ['r1 = *(u32 *)(r6 + 16)', (a: Assembler) => a.load('u32', R1, R6, 16), '6161100000000000'],
  ['*(u8 *)(r10 - 24) = r1', (a: Assembler) => a.store('u8', R10, -24, R1), '731ae8ff00000000'],
  ['*(u64 *)(r10 - 8) = 0', (a: Assembler) => a.store('u64', R10, -8, 0), '7a0af8ff00000000'],
  ['call 1', (a: Assembler) => a.call(1, 'bpf_map_lookup_elem'), '8500000001000000'],
  ['exit', (a: Assembler) => a.exit(), '9500000000000000'],
])('%s', (_, write, wanted) => {
  expect(encoded(write)).toEqual([wanted]);
});

test('jumps count slots from the next one, forwards and back, over two-slot constants', () => {
  const code = encoded((a) => {
    a.label('again');
    a.jumpIf(R0, '==', 0, 'end');
    a.map(R1, 'routes');
    a.jumpIf(R0, '!=', R1, 'again');
    a.label('end');
    a.exit();
  });
  expect(code).toEqual([
    '1500030000000000',
    '1811000000000000',
    '0000000000000000',
    '5d10fcff00000000',
    '9500000000000000',
  ]);
});

test('a label that is missing or there twice is a bug that names its place', () => {
  expect(() => encoded((a) => a.jump('nowhere'))).toThrow(/label nowhere, wanted at assembler.test.ts:\d+/);
  expect(() =>
    encoded((a) => {
      a.label('here');
      a.label('here');
    }),
  ).toThrow(/here twice/);
});

test('linking fills in the descriptors of maps and leaves the program as it was', () => {
  const a = new Assembler('test');
  a.map(R1, 'routes');
  const program = a.assemble();
  expect(Buffer.from(link(program, { routes: 9 })).toString('hex', 0, 8)).toBe('1811000009000000');
  expect(program.slots[4]).toBe(0);
  expect(() => link(program, {})).toThrow(/map routes, which nobody made/);
});

test('every jump of the two programs lands inside them, and a listing names every label', () => {
  for (const program of [outboundProgram(), inboundProgram()]) {
    const view = new DataView(program.slots.buffer);
    const count = program.slots.length / 8;
    for (let slot = 0; slot < count; slot++) {
      const opcode = view.getUint8(slot * 8);
      if ((opcode & 7) !== 5 || opcode === 0x85 || opcode === 0x95) continue;
      const target = slot + 1 + view.getInt16(slot * 8 + 2, true);
      expect(target).toBeGreaterThanOrEqual(0);
      expect(target).toBeLessThan(count);
    }
    for (const label of ['off:', 'go on:', 'refused:']) expect(listing(program)).toContain(label);
  }
});

test('what the verifier refused is named by the line of our source', () => {
  const program = outboundProgram();
  const log = [
    '0: R1=ctx() R10=fp0',
    '0: (bf) r6 = r1                       ; R1=ctx() R6_w=ctx()',
    '1: (7a) *(u64 *)(r10 -8) = 0          ; R10=fp0 fp-8_w=0',
    'invalid stack off=-600 size=4',
    'processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0',
    '',
  ].join('\n');
  const error = verifierError(program, log, 'EACCES');
  expect(error.message).toMatch(
    /refused the outbound program at program-parts\.ts:\d+, slot 1 after the label start, `\*\(u64 \*\)\(r10 - 8\) = 0`: invalid stack off=-600 size=4 \(EACCES\)/,
  );
  expect(verifierError(program, '', 'EINVAL').message).toMatch(/it said nothing \(EINVAL\)/);
});
