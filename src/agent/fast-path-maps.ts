/** The maps of the two programs in the kernel, and the programs over them. */
import { readFileSync } from 'node:fs';
import { type AssembledProgram, link } from '../ebpf/assembler.ts';
import type { MapWriter } from '../ebpf/fast-tables.ts';
import {
  INBOUND,
  MAP_NAMES,
  MAPS,
  type MapName,
  numberBytes,
  OUTBOUND,
  peerCells,
  totalCells,
} from '../ebpf/layout.ts';
import { verifierError } from '../ebpf/verifier-error.ts';
import { type Bpf, ProgramRefused } from '../io/bpf.ts';
import { systemCalls } from '../io/libc.ts';

export class FastPathMaps implements MapWriter {
  readonly #bpf: Bpf;
  readonly #descriptors: Record<MapName, number>;
  readonly #cpus = possibleCpus();

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
    const descriptors: Partial<Record<MapName, number>> = {};
    try {
      for (const name of MAP_NAMES) descriptors[name] = bpf.createMap(name, MAPS[name]);
    } catch (error) {
      for (const descriptor of Object.values(descriptors)) systemCalls().close(descriptor);
      throw error;
    }
    this.#descriptors = descriptors as Record<MapName, number>;
  }

  /** Loads a program over these maps. @throws FailedError that names the source line which the verifier refused */
  load(program: AssembledProgram, attachType: number): number {
    try {
      return this.#bpf.loadProgram(program.name, link(program, this.#descriptors), attachType);
    } catch (error) {
      if (error instanceof ProgramRefused) throw verifierError(program, error.log, error.errno);
      throw error;
    }
  }

  set(map: MapName, key: Uint8Array, value: Uint8Array): void {
    this.#bpf.update(this.#descriptors[map], key, value);
  }

  delete(map: MapName, key: Uint8Array): void {
    this.#bpf.delete(this.#descriptors[map], key);
  }

  startCounters(key: Uint8Array): void {
    const { valueBytes } = MAPS.peer_counters;
    this.#bpf.update(this.#descriptors.peer_counters, key, new Uint8Array(valueBytes * this.#cpus));
  }

  has(map: MapName, key: Uint8Array): boolean {
    const bytes = MAPS[map].valueBytes * (MAPS[map].perCpu ? this.#cpus : 1);
    return this.#bpf.lookUp(this.#descriptors[map], key, bytes) !== undefined;
  }

  isEmpty(map: MapName): boolean {
    return this.#bpf.isEmpty(this.#descriptors[map]);
  }

  /** The cells of a direction, those of all CPUs together. */
  totals(direction: 'outbound' | 'inbound'): readonly number[] {
    const key = numberBytes(direction === 'outbound' ? OUTBOUND : INBOUND);
    return totalCells(this.#read('totals', key) ?? new Uint8Array(MAPS.totals.valueBytes));
  }

  /** The cells of a peer. */
  peer(key: Uint8Array): readonly number[] {
    return peerCells(this.#read('peer_counters', key) ?? new Uint8Array(MAPS.peer_counters.valueBytes));
  }

  close(): void {
    for (const descriptor of Object.values(this.#descriptors)) systemCalls().close(descriptor);
  }

  #read(map: MapName, key: Uint8Array): Uint8Array | undefined {
    return this.#bpf.lookUp(this.#descriptors[map], key, MAPS[map].valueBytes * this.#cpus);
  }
}

/** Per-CPU values have a part for each CPU that there could ever be: `0-3`, or `0`. */
function possibleCpus(): number {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim();
  return Number(text.split(/[-,]/).at(-1)) + 1;
}
