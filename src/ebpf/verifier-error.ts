/**
 * What the kernel's verifier says of a program, as an error that names the line of our source.
 *
 * The log (level 1) walks the program: `17: (71) r1 = *(u8 *)(r10 -24) ; R1_w=…` for each slot that it looked at, then
 * the complaint in a line of its own, then statistics. So the culprit is the last slot before the complaint.
 */
import { FailedError } from '../base/errors.ts';
import type { AssembledProgram } from './assembler.ts';

const WALKED = /^(\d+): \([0-9a-f]{2}\)/;
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|max_states|peak_states)/;

/** `errno` is the name of what PROG_LOAD failed with. */
export function verifierError(program: AssembledProgram, log: string, errno: string): FailedError {
  const lines = log.split('\n').filter((line) => line.trim() !== '' && !STATISTICS.test(line));
  const walked = lines.findLastIndex((line) => WALKED.test(line));
  const complaint = lines.at(-1) ?? 'it said nothing';
  const slot = walked < 0 ? undefined : Number(WALKED.exec(lines[walked]!)![1]);
  const line = slot === undefined ? undefined : program.lines[slot];
  const where = line ? ` at ${line.place}, slot ${slot} after the label ${line.label}, \`${line.text}\`` : '';
  return new FailedError(
    'ERR_EBPF_VERIFIER',
    `the kernel's verifier refused the ${program.name} program${where}: ${complaint.trim()} (${errno})`,
    { hint: 'run with --fast-path off and report this line with the output of `uname -r`' },
  );
}
