/**
 * The fast path's programs as clang compiles them from C (examples/bench-peers/clang/fast-path.c): agents of ours start
 * as ever and keep the maps; then the programs on their links are exchanged for clang's. So all but the instructions
 * is the same.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastDirection } from '../agent/fast-path-state.ts';
import { FailedError } from '../base/errors.ts';
import { installedFile } from '../base/installation.ts';
import { link } from '../ebpf/assembler.ts';
import { MAP_NAMES } from '../ebpf/layout.ts';
import { Bpf, ProgramRefused, TCX_EGRESS, TCX_INGRESS } from '../io/bpf.ts';
import { systemCalls } from '../io/libc.ts';
import { answered, type Contender } from './contender.ts';
import { programOf } from './elf.ts';
import { TortieContender } from './tortie.ts';
import { command, HOSTS, type Host, type TwoHosts } from './two-hosts.ts';

export const FAST_PATH_FLAGS: readonly string[] = ['--transport', 'ipip', '--fast-path', 'ebpf'];
const SOURCE = installedFile('examples/bench-peers/clang/fast-path.c').pathname;
const COMPILE_MS = 60_000;
const ATTACH_TYPES: Readonly<Record<FastDirection, number>> = { outbound: TCX_EGRESS, inbound: TCX_INGRESS };
/** Debian keeps the kernel's <asm/types.h> where a compiler for another machine does not look. */
const INCLUDE = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;

/** `clang`, or the newest `clang-N`; undefined where there is none. */
export function clangOnPath(path: string): string | undefined {
  const names = path
    .split(':')
    .flatMap((directory) => (existsSync(directory) ? readdirSync(directory) : []))
    .filter((name) => /^clang(-\d+)?$/.test(name));
  const version = (name: string) => Number(name.split('-')[1] ?? Number.POSITIVE_INFINITY);
  return names.sort((a, b) => version(b) - version(a))[0];
}

/** A program on a link of an agent's, with clang's for the same place. */
export interface TwinnedLink {
  readonly host: Host;
  readonly direction: FastDirection;
  readonly link: number;
  readonly ours: number;
  readonly clangs: number;
}

export interface TwinnedPrograms {
  /** What host a talks to. */
  readonly target: string;
  readonly links: readonly TwinnedLink[];
}

export class ClangTwin implements Contender {
  readonly name: string;
  readonly kind = 'tortie';
  readonly settings: string;
  readonly figures;
  readonly #clang: string;
  readonly #agents: TortieContender;

  constructor(name: string, clang: string) {
    this.name = name;
    this.#clang = clang;
    this.#agents = new TortieContender({ name, flags: FAST_PATH_FLAGS, isPinned: true });
    this.figures = this.#agents.figures;
    this.settings = `the same agents; on their links the same programs in C, by \`${clang} -O2 -mcpu=v3\``;
  }

  async start(hosts: TwoHosts): Promise<string> {
    const bpf = new Bpf();
    const { target, links } = await this.twin(hosts, bpf);
    for (const { link, ours, clangs } of links) {
      bpf.exchange(link, clangs);
      for (const descriptor of [link, ours, clangs]) systemCalls().close(descriptor);
    }
    return answered(hosts, target);
  }

  /** Starts the agents, and loads clang's programs over their maps; ours stay on the links. */
  async twin(hosts: TwoHosts, bpf: Bpf): Promise<TwinnedPrograms> {
    const file = await compile(this.#clang);
    const target = await this.#agents.start(hosts);
    const links = HOSTS.flatMap((host) => {
      const pins = this.#agents.pins(hosts, host);
      const open = (path: string) => {
        const descriptor = bpf.pinned(path);
        if (descriptor === undefined) throw new FailedError('ERR_BENCH', `${path} is not pinned`);
        return descriptor;
      };
      const maps = Object.fromEntries(MAP_NAMES.map((name) => [name, open(pins.map(name))]));
      const twinned = (['outbound', 'inbound'] as const).map((direction) => {
        const program = programOf(file, direction);
        const clangs = load(bpf, program.name, link(program, maps), ATTACH_TYPES[direction]);
        const name = [...pins.links().keys()].find((link) => link.startsWith(`link-${direction}-`));
        const hung = open(pins.link(name ?? direction));
        return { host, direction, link: hung, ours: bpf.programOf(hung), clangs };
      });
      for (const descriptor of Object.values(maps)) systemCalls().close(descriptor);
      return twinned;
    });
    return { target, links };
  }

  remove(): Promise<void> {
    return this.#agents.remove();
  }
}

async function compile(clang: string): Promise<Uint8Array> {
  const directory = mkdtempSync(join(tmpdir(), 'tortie-bench-'));
  const object = join(directory, 'fast-path.o');
  const flags = ['-O2', '-mcpu=v3', '-target', 'bpf', '-I', INCLUDE];
  try {
    await command([clang, ...flags, '-c', SOURCE, '-o', object], COMPILE_MS);
    return readFileSync(object);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function load(bpf: Bpf, name: string, slots: Uint8Array, attachType: number): number {
  try {
    return bpf.loadProgram(name, slots, attachType);
  } catch (error) {
    if (!(error instanceof ProgramRefused)) throw error;
    throw new FailedError('ERR_BENCH', `${name}: ${error.message}: ${error.log.trim().slice(-600)}`);
  }
}
