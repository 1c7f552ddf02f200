/** Takes eBPF programs off a device behind their owner's back, as `bpftool link detach` would. */
import { Arena } from '../../src/io/arena.ts';
import { libc, systemCalls } from '../../src/io/libc.ts';
import { inNetworkNamespace, interfaceIndex, namedNetworkNamespace } from '../../src/io/netns.ts';

const BPF = 321;
const PROG_QUERY = 16;
const LINK_FD_BY_ID = 30;
const LINK_DETACH = 34;
const ATTRIBUTE_BYTES = 64;
const MAX_LINKS = 8;

/** @returns how many were taken off */
export function detachPrograms(namespace: string, device: string, attachType: number): number {
  const call = libc().library.func(
    'long syscall(long number, int command, uintptr_t attribute, uint32_t size)',
  );
  const arena = new Arena(4096);
  const attribute = arena.allocate(ATTRIBUTE_BYTES);
  const ids = arena.allocate(MAX_LINKS * 4);
  const programs = arena.allocate(MAX_LINKS * 4);
  const run = (command: number, ...words: readonly (readonly [number, number])[]): number => {
    for (const [at, value] of words) arena.view.setUint32(attribute + at, value, true);
    return call(BPF, command, arena.base + attribute, ATTRIBUTE_BYTES);
  };
  arena.writePointer(attribute + 16, programs);
  arena.writePointer(attribute + 40, ids);
  const asked = inNetworkNamespace(namedNetworkNamespace(namespace), () =>
    run(PROG_QUERY, [0, interfaceIndex(device)], [4, attachType], [24, MAX_LINKS]),
  );
  if (asked < 0) throw new Error(`PROG_QUERY failed: errno ${systemCalls().errno()}`);
  const count = arena.view.getUint32(attribute + 24, true);
  for (let i = 0; i < count; i++) {
    const id = arena.view.getUint32(ids + i * 4, true);
    arena.bytes.fill(0, attribute, attribute + ATTRIBUTE_BYTES);
    const link = run(LINK_FD_BY_ID, [0, id]);
    arena.bytes.fill(0, attribute, attribute + ATTRIBUTE_BYTES);
    if (run(LINK_DETACH, [0, link]) < 0)
      throw new Error(`LINK_DETACH failed: errno ${systemCalls().errno()}`);
    systemCalls().close(link);
  }
  return count;
}
