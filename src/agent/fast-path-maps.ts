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
import { type Bpf, type MapDefinition, ProgramRefused } from '../io/bpf.ts';
import { systemCalls } from '../io/libc.ts';
import type { Pins } from './fast-path-pins.ts';

export class FastPathMaps implements MapWriter {
  readonly #bpf: Bpf;
  readonly #descriptors: Descriptors;
  readonly #cpus = possibleCpus();

  /** Whether these are the maps of the process before us, with what it laid. */
  readonly adopted: boolean;

  constructor(bpf: Bpf, pins: Pins | null = null) {
    this.#bpf = bpf;
    const left = pins && pinnedMaps(bpf, pins);
    this.adopted = left !== null;
    this.#descriptors = left ?? makeMaps(bpf);
  }

  /** Pins these maps in the place of whatever others. */
  keep(pins: Pins): void {
    pins.removeMaps();
    for (const name of MAP_NAMES) this.#bpf.pin(this.#descriptors[name], pins.map(name));
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
    this.#bpf.insert(this.#descriptors.peer_counters, key, new Uint8Array(valueBytes * this.#cpus));
  }

  keys(map: MapName): Uint8Array[] {
    return this.#bpf.keys(this.#descriptors[map], MAPS[map].keyBytes);
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
    closeAll(this.#descriptors);
  }

  #read(map: MapName, key: Uint8Array): Uint8Array | undefined {
    return this.#bpf.lookUp(this.#descriptors[map], key, MAPS[map].valueBytes * this.#cpus);
  }
}

type Descriptors = Record<MapName, number>;

/** All or none. */
function makeMaps(bpf: Bpf): Descriptors {
  const made: Partial<Descriptors> = {};
  try {
    for (const name of MAP_NAMES) made[name] = bpf.createMap(name, MAPS[name]);
  } catch (error) {
    closeAll(made);
    throw error;
  }
  return made as Descriptors;
}

/** null where one is missing or has another shape. */
function pinnedMaps(bpf: Bpf, pins: Pins): Descriptors | null {
  const found: Partial<Descriptors> = {};
  for (const name of MAP_NAMES) {
    const descriptor = bpf.pinned(pins.map(name));
    if (descriptor !== undefined) found[name] = descriptor;
    if (descriptor !== undefined && hasShape(bpf.shapeOf(descriptor), MAPS[name])) continue;
    closeAll(found);
    return null;
  }
  return found as Descriptors;
}

function hasShape(is: Omit<MapDefinition, 'flags'>, wanted: MapDefinition): boolean {
  return (['kind', 'keyBytes', 'valueBytes', 'maxEntries'] as const).every((key) => is[key] === wanted[key]);
}

function closeAll(descriptors: Partial<Descriptors>): void {
  for (const descriptor of Object.values(descriptors)) systemCalls().close(descriptor);
}

/** Per-CPU values have a part for each CPU that there could ever be: `0-3`, or `0`. */
function possibleCpus(): number {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim();
  return Number(text.split(/[-,]/).at(-1)) + 1;
}
