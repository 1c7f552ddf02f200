/**
 * Arrows point one way (docs/architecture.md). Walks the imports of src/ and holds each against the table
 * of what a folder may know; a forbidden edge fails with the reason.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { expect, test } from 'vitest';

const SRC = join(import.meta.dirname, '../../src');

/** Folder -> folders that it may import besides itself. What is not listed is forbidden. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  ip: ['base'],
  wire: ['base', 'ip'],
  fib: ['base', 'ip'],
  dataplane: ['base', 'ip', 'wire', 'fib'],
  ebpf: ['base', 'ip', 'wire', 'fib'],
  io: ['base', 'ip', 'wire', 'dataplane', 'store'],
  model: ['base', 'ip'],
  ipam: ['base', 'ip', 'model'],
  store: ['base', 'ip', 'model', 'io'],
  control: ['base', 'ip', 'model', 'ipam', 'store', 'fib'],
  host: ['base', 'ip', 'wire', 'control', 'io'],
  agent: [
    'base',
    'ip',
    'wire',
    'fib',
    'dataplane',
    'ebpf',
    'io',
    'model',
    'ipam',
    'store',
    'control',
    'host',
  ],
  lab: ['base', 'ip', 'wire', 'io', 'model', 'ipam', 'store', 'control', 'host', 'agent'],
  bench: ['base', 'ip', 'wire', 'fib', 'dataplane', 'ebpf', 'io', 'model', 'store', 'agent'],
  cli: ['base', 'ip', 'wire', 'io', 'model', 'ipam', 'store', 'control', 'host', 'agent', 'lab'],
};

/** Single files that a folder may reach into where the folder as a whole is closed to it, and the reverse. */
const ONLY: Readonly<Record<string, Readonly<Record<string, { file: RegExp; why: string }>>>> = {
  control: {
    fib: {
      file: /^fib\/forwarding-config\.ts$/,
      why: 'the control plane never touches a packet: of the FIB it knows only what it is told',
    },
  },
  io: {
    dataplane: {
      file: /^dataplane\/ports\.ts$/,
      why: 'io implements the ports, it does not know who calls them',
    },
    store: {
      file: /^store\/(file-)?lock\.ts$/,
      why: 'io implements the lock port, it does not know the store',
    },
  },
  store: {
    io: {
      file: /^io\/file-lock\.ts$/,
      why: 'store/open.ts is where a datastore is put together: the first writer loads the lock there',
    },
  },
  host: {
    control: {
      file: /^control\/(ports|kernel-tables)\.ts$/,
      why: 'host implements the ports, it does not decide',
    },
  },
};

/** Modules from outside that only some folders may load. */
const CONFINED: readonly { module: RegExp; folders: readonly string[]; why: string }[] = [
  { module: /^koffi$/, folders: ['io'], why: 'io is the only folder with system calls of its own' },
  { module: /^etcd3$/, folders: ['store'], why: 'only the etcd driver knows etcd' },
  {
    module: /^node:child_process$/,
    folders: ['host', 'lab', 'bench', 'cli'],
    why: 'only host runs ip and nft; the lab, the bench and the commands start processes',
  },
  {
    module: /^(node:net|node:http|node:dgram)$/,
    folders: ['agent', 'cli', 'lab', 'bench', 'store'],
    why: 'the data plane and the pure folders have no sockets of Node',
  },
  {
    module: /^node:(fs|fs\/promises)$/,
    folders: ['store', 'host', 'agent', 'lab', 'bench', 'cli', 'io'],
    why: 'pure folders read no files',
  },
  { module: /^commander$/, folders: ['cli'], why: 'the command line is the outermost layer' },
];

function sources(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(directory, name));
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/(?:from|import|import\()\s*'([^']+)'/g)].map((match) => match[1] ?? '');
}

function problemsOf(file: string): string[] {
  const here = relative(SRC, file);
  const folder = here.split('/')[0] ?? '';
  return importsOf(file).flatMap((specifier) => {
    if (!specifier.startsWith('.')) {
      const rule = CONFINED.find((r) => r.module.test(specifier));
      return rule && !rule.folders.includes(folder) ? [`${here} imports ${specifier}: ${rule.why}`] : [];
    }
    const there = relative(SRC, normalize(join(dirname(file), specifier)));
    const target = there.split('/')[0] ?? '';
    if (target === folder) return [];
    if (!MAY_IMPORT[folder]?.includes(target))
      return [`${here} imports ${there}: ${folder} must not know ${target}`];
    const only = ONLY[folder]?.[target];
    return only && !only.file.test(there) ? [`${here} imports ${there}: ${only.why}`] : [];
  });
}

test('every folder of src is in the table', () => {
  expect(readdirSync(SRC).filter((name) => !(name in MAY_IMPORT))).toEqual([]);
});

test('imports point one way', () => {
  const files = sources(SRC);
  expect(files.length).toBeGreaterThan(10);
  expect(files.flatMap(problemsOf)).toEqual([]);
});
