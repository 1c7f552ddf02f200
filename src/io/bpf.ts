/**
 * The bpf system call: maps, programs, and links that hang a program on a device (tcx, Linux 6.6).
 * Everything made here is held by descriptors: what is not pinned in a bpf file system vanishes with the process.
 */
import { UnavailableError } from '../base/errors.ts';
import { Arena } from './arena.ts';
import { EEXIST, ENOENT, EPERM, errnoName, systemCallFailed } from './errno.ts';
import { libc, systemCalls } from './libc.ts';

const COMMAND = {
  MAP_CREATE: 0,
  MAP_LOOKUP: 1,
  MAP_UPDATE: 2,
  MAP_DELETE: 3,
  MAP_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJECT_PIN: 6,
  OBJECT_GET: 7,
  PROG_TEST_RUN: 10,
  PROG_BY_ID: 13,
  OBJECT_INFO: 15,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
} as const;

const SYSTEM_CALL_NUMBERS: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const SCHED_CLS = 3;
export const TCX_INGRESS = 46;
export const TCX_EGRESS = 47;

/** union bpf_attr has grown to 152 bytes; what a command does not use must be 0. */
const ATTRIBUTE_BYTES = 152;
const NAME_BYTES = 16;
const LOG_BYTES = 1 << 20;
const ARENA_BYTES = LOG_BYTES + (512 << 10);
/** The largest key, value (for all CPUs) or program that we hand over. */
const ITEM_BYTES = 128 << 10;
/** More than any of our maps holds: what is read while it changes has an end. */
const MOST_KEYS = 1 << 20;
const LINK_INFO_BYTES = 32;
const LINK_INFO_PROGRAM = 8;
const LINK_INFO_DEVICE = 16;
const MAP_INFO_BYTES = 32;
/** MAP_UPDATE only where the key is not there yet. */
const NO_EXIST = 1;

export interface MapDefinition {
  readonly kind: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
}

/** PROG_LOAD failed; `log` is what the verifier wrote. */
export class ProgramRefused extends Error {
  readonly log: string;
  readonly errno: string;
  constructor(errno: string, log: string) {
    super(`PROG_LOAD failed: ${errno}`);
    this.log = log;
    this.errno = errno;
  }
}

/** The calls over memory of their own; a few microseconds each. */
export class Bpf {
  readonly #arena = new Arena(ARENA_BYTES);
  readonly #attribute = this.#arena.allocate(ATTRIBUTE_BYTES, 8);
  readonly #key = this.#arena.allocate(64, 8);
  readonly #in = this.#arena.allocate(ITEM_BYTES, 8);
  readonly #out = this.#arena.allocate(ITEM_BYTES, 8);
  readonly #context = this.#arena.allocate(256, 8);
  readonly #log = this.#arena.allocate(LOG_BYTES, 8);
  readonly #number: number;
  readonly #call: (number: number, command: number, attribute: number, size: number) => number;

  constructor() {
    const number = SYSTEM_CALL_NUMBERS[process.arch];
    if (number === undefined)
      throw new UnavailableError('ERR_EBPF', `bpf(2) is not known on ${process.arch}`, {
        hint: 'use --fast-path off',
      });
    this.#number = number;
    this.#call = libc().library.func(
      'long syscall(long number, int command, uintptr_t attribute, unsigned int size)',
    );
  }

  /** @returns a descriptor */
  createMap(name: string, map: MapDefinition): number {
    this.#clear();
    this.#u32(0, map.kind);
    this.#u32(4, map.keyBytes);
    this.#u32(8, map.valueBytes);
    this.#u32(12, map.maxEntries);
    this.#u32(16, map.flags);
    this.#name(28, name);
    return this.#must(COMMAND.MAP_CREATE, `making the eBPF map ${name}`);
  }

  /** Sets an entry. @throws where the map is full or gone */
  update(map: number, key: Uint8Array, value: Uint8Array): void {
    this.#entry(map, key);
    this.#arena.bytes.set(value, this.#in);
    this.#pointer(16, this.#in);
    this.#must(COMMAND.MAP_UPDATE, 'setting an entry of an eBPF map');
  }

  /** Sets an entry where there is none. */
  insert(map: number, key: Uint8Array, value: Uint8Array): void {
    this.#entry(map, key);
    this.#arena.bytes.set(value, this.#in);
    this.#pointer(16, this.#in);
    this.#u32(24, NO_EXIST);
    if (this.#run(COMMAND.MAP_UPDATE) >= 0 || systemCalls().errno() === EEXIST) return;
    throw systemCallFailed('setting an entry of an eBPF map');
  }

  /** Deletes an entry; whether it was there. */
  delete(map: number, key: Uint8Array): boolean {
    this.#entry(map, key);
    if (this.#run(COMMAND.MAP_DELETE) >= 0) return true;
    if (systemCalls().errno() === ENOENT) return false;
    throw systemCallFailed('deleting an entry of an eBPF map');
  }

  /** The value of `key`, `valueBytes` of it (those of all CPUs where the map is per CPU), or undefined. */
  lookUp(map: number, key: Uint8Array, valueBytes: number): Uint8Array | undefined {
    this.#entry(map, key);
    this.#pointer(16, this.#out);
    if (this.#run(COMMAND.MAP_LOOKUP) >= 0) return this.#arena.bytes.slice(this.#out, this.#out + valueBytes);
    if (systemCalls().errno() === ENOENT) return undefined;
    throw systemCallFailed('reading an entry of an eBPF map');
  }

  /** The keys of a map; one that changes meanwhile may show some twice, or begin anew. */
  keys(map: number, keyBytes: number): Uint8Array[] {
    const found: Uint8Array[] = [];
    for (let key = this.#nextKey(map, null, keyBytes); key; key = this.#nextKey(map, key, keyBytes)) {
      found.push(key);
      if (found.length > MOST_KEYS) break;
    }
    return found;
  }

  isEmpty(map: number): boolean {
    return this.#nextKey(map, null, 0) === undefined;
  }

  #nextKey(map: number, before: Uint8Array | null, keyBytes: number): Uint8Array | undefined {
    if (before) this.#entry(map, before);
    else {
      this.#clear();
      this.#u32(0, map);
    }
    this.#pointer(16, this.#out);
    if (this.#run(COMMAND.MAP_NEXT_KEY) >= 0) return this.#arena.bytes.slice(this.#out, this.#out + keyBytes);
    if (systemCalls().errno() === ENOENT) return undefined;
    throw systemCallFailed('reading the keys of an eBPF map');
  }

  /** What a map was made as; its flags are not told. */
  shapeOf(map: number): Omit<MapDefinition, 'flags'> {
    const [kind, , keyBytes, valueBytes, maxEntries] = this.#info(map, MAP_INFO_BYTES);
    return { kind: kind!, keyBytes: keyBytes!, valueBytes: valueBytes!, maxEntries: maxEntries! };
  }

  /** Gives a map or link a name in a bpf file system, which holds it when the process is gone. */
  pin(descriptor: number, path: string): void {
    this.#path(path);
    this.#u32(8, descriptor);
    this.#must(COMMAND.OBJECT_PIN, `pinning ${path}`);
  }

  /** A descriptor of what is pinned there; undefined where nothing is. */
  pinned(path: string): number | undefined {
    this.#path(path);
    const descriptor = this.#run(COMMAND.OBJECT_GET);
    if (descriptor >= 0) return descriptor;
    if (systemCalls().errno() === ENOENT) return undefined;
    throw systemCallFailed(`opening ${path}`);
  }

  /** Loads a tc program whose slots are linked. @throws ProgramRefused with the verifier's log */
  loadProgram(name: string, slots: Uint8Array, attachType: number): number {
    const { bytes } = this.#arena;
    this.#clear();
    bytes.set(slots, this.#in);
    bytes.set(new TextEncoder().encode('Apache-2.0\0'), this.#key);
    this.#u32(0, SCHED_CLS);
    this.#u32(4, slots.length / 8);
    this.#pointer(8, this.#in);
    this.#pointer(16, this.#key);
    this.#u32(24, 1);
    this.#u32(28, LOG_BYTES);
    this.#pointer(32, this.#log);
    this.#name(48, name);
    this.#u32(68, attachType);
    bytes[this.#log] = 0;
    const program = this.#run(COMMAND.PROG_LOAD);
    if (program >= 0) return program;
    const errno = systemCalls().errno();
    const end = bytes.indexOf(0, this.#log);
    const log = new TextDecoder().decode(bytes.slice(this.#log, end));
    if (errno === EPERM && log === '') throw notAllowed('loading an eBPF program');
    throw new ProgramRefused(errnoName(errno), log);
  }

  /** Hangs a program on a device of the calling thread's namespace. @returns the link's descriptor */
  attach(program: number, device: number, attachType: number): number {
    this.#clear();
    this.#u32(0, program);
    this.#u32(4, device);
    this.#u32(8, attachType);
    return this.#must(COMMAND.LINK_CREATE, 'attaching an eBPF program (tcx, Linux 6.6)');
  }

  /** Puts another program in the place of a link's, without a packet between. */
  exchange(link: number, program: number): void {
    this.#clear();
    this.#u32(0, link);
    this.#u32(4, program);
    this.#must(COMMAND.LINK_UPDATE, 'exchanging an eBPF program');
  }

  /** The device that a link hangs on; 0 where it was taken off, or the device is gone. */
  deviceOf(link: number): number {
    return this.#info(link, LINK_INFO_BYTES)[LINK_INFO_DEVICE / 4]!;
  }

  /** A descriptor of the program on a link, whoever loaded it. */
  programOf(link: number): number {
    const id = this.#info(link, LINK_INFO_BYTES)[LINK_INFO_PROGRAM / 4]!;
    this.#clear();
    this.#u32(0, id);
    return this.#must(COMMAND.PROG_BY_ID, `opening the eBPF program ${id}`);
  }

  /** The first words of what the kernel tells of an object. */
  #info(descriptor: number, bytes: number): Uint32Array {
    this.#clear();
    this.#arena.bytes.fill(0, this.#out, this.#out + bytes);
    this.#u32(0, descriptor);
    this.#u32(4, bytes);
    this.#pointer(8, this.#out);
    this.#must(COMMAND.OBJECT_INFO, 'asking for an eBPF object');
    return new Uint32Array(this.#arena.bytes.slice(this.#out, this.#out + bytes).buffer);
  }

  /** Runs a program once on a frame, sending nothing. `context`: struct __sk_buff. */
  testRun(
    program: number,
    frame: Uint8Array,
    context?: Uint8Array,
  ): { readonly verdict: number; readonly frame: Uint8Array } {
    this.#clear();
    this.#arena.bytes.set(frame, this.#in);
    this.#u32(0, program);
    this.#u32(8, frame.length);
    this.#u32(12, ITEM_BYTES);
    this.#pointer(16, this.#in);
    this.#pointer(24, this.#out);
    this.#u32(32, 1);
    if (context) {
      this.#arena.bytes.set(context, this.#context);
      this.#u32(40, context.length);
      this.#pointer(48, this.#context);
    }
    this.#must(COMMAND.PROG_TEST_RUN, 'running an eBPF program');
    const { view, bytes } = this.#arena;
    const length = view.getUint32(this.#attribute + 12, true);
    return {
      verdict: view.getInt32(this.#attribute + 4, true),
      frame: bytes.slice(this.#out, this.#out + length),
    };
  }

  #clear(): void {
    this.#arena.bytes.fill(0, this.#attribute, this.#attribute + ATTRIBUTE_BYTES);
  }

  #entry(map: number, key: Uint8Array): void {
    this.#clear();
    this.#u32(0, map);
    this.#arena.bytes.set(key, this.#key);
    this.#pointer(8, this.#key);
  }

  #path(path: string): void {
    this.#clear();
    this.#arena.bytes.set(new TextEncoder().encode(`${path}\0`), this.#in);
    this.#pointer(0, this.#in);
  }

  #u32(at: number, value: number): void {
    this.#arena.view.setUint32(this.#attribute + at, value, true);
  }

  #pointer(at: number, offset: number): void {
    this.#arena.writePointer(this.#attribute + at, offset);
  }

  #name(at: number, name: string): void {
    const bytes = new TextEncoder().encode(name.slice(0, NAME_BYTES - 1));
    this.#arena.bytes.set(bytes, this.#attribute + at);
  }

  #run(command: number): number {
    return this.#call(this.#number, command, this.#arena.base + this.#attribute, ATTRIBUTE_BYTES);
  }

  #must(command: number, what: string): number {
    const result = this.#run(command);
    if (result >= 0) return result;
    const errno = systemCalls().errno();
    if (errno === EPERM) throw notAllowed(what);
    throw systemCallFailed(what, errno);
  }
}

function notAllowed(what: string): UnavailableError {
  return new UnavailableError(
    'ERR_PRIVILEGE',
    `${what} needs CAP_BPF and CAP_NET_ADMIN of the host (EPERM)`,
    {
      hint: 'run as root, or use --fast-path off',
    },
  );
}
