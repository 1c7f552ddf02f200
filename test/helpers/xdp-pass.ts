/** An XDP program that lets everything pass, on a device: what hangs there makes its packets in another way than without. */
import { Arena } from '../../src/io/arena.ts';
import { libc, systemCalls } from '../../src/io/libc.ts';
import { inNetworkNamespace, interfaceIndex, namedNetworkNamespace } from '../../src/io/netns.ts';

const BPF = 321;
const PROG_LOAD = 5;
const LINK_CREATE = 28;
const XDP_PROGRAM = 6;
const XDP_ATTACH = 37;
const IN_THE_DRIVER = 4;
const ATTRIBUTE_BYTES = 128;
/** r0 = XDP_PASS; exit */
const PASS = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/** @returns what takes it off again */
export function hangXdp(namespace: string, device: string): () => void {
  const call = libc().library.func(
    'long syscall(long number, int command, uintptr_t attribute, uint32_t size)',
  );
  const arena = new Arena(4096);
  const attribute = arena.allocate(ATTRIBUTE_BYTES, 8);
  const code = arena.allocate(PASS.length, 8);
  const license = arena.allocate(8, 8);
  arena.bytes.set(PASS, code);
  const run = (command: number, words: Readonly<Record<number, number>>): number => {
    for (const [at, value] of Object.entries(words))
      arena.view.setUint32(attribute + Number(at), value, true);
    const made = call(BPF, command, arena.base + attribute, ATTRIBUTE_BYTES);
    if (made < 0) throw new Error(`bpf command ${command} failed: errno ${systemCalls().errno()}`);
    return made;
  };
  arena.writePointer(attribute + 8, code);
  arena.writePointer(attribute + 16, license);
  const program = run(PROG_LOAD, { 0: XDP_PROGRAM, 4: PASS.length / 8 });
  arena.bytes.fill(0, attribute, attribute + ATTRIBUTE_BYTES);
  const link = inNetworkNamespace(namedNetworkNamespace(namespace), () =>
    run(LINK_CREATE, { 0: program, 4: interfaceIndex(device), 8: XDP_ATTACH, 12: IN_THE_DRIVER }),
  );
  systemCalls().close(program);
  return () => systemCalls().close(link);
}
