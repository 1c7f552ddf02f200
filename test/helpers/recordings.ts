/**
 * Plays recorded sessions of the real calicoctl (test/golden/README.md) against ours and names every difference.
 * What is compared, and which values may differ (uids, times, revisions, sequence numbers), is the README's.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { parseExactJson } from '../../src/model/exact-json.ts';

export interface Seen {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Step extends Partial<Seen> {
  /** A command; other steps (`given`, `etcd`) lay values down as Calico or a hand did. */
  readonly argv?: readonly string[];
  readonly stdin?: string;
  readonly loose?: boolean;
  readonly put?: Readonly<Record<string, string>>;
  readonly del?: readonly string[];
}

export type Client = (argv: readonly string[], stdin: string, datastore: string) => Promise<Seen>;

export const SESSIONS = [
  'pools',
  'pool-order-and-columns',
  'pool-refused',
  'nodes',
  'config',
  'workloads',
  'documents',
  'convert',
  'store-rules',
  'ipam',
  'ipam-borrow',
];

const KINDS =
  /^\/calico\/(resources\/v3\/projectcalico.org\/(ippools|nodes|workloadendpoints|clusterinformations|bgpconfigurations|felixconfigurations|ipreservations)\/|ipam\/)/;

const VOLATILE: readonly (readonly [RegExp, string])[] = [
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UID'],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, 'TIME'],
  [/("?resourceVersion"?: )"\d+"/g, '$1"REVISION"'],
  [/\b[0-9a-f]{32}\b/g, 'GUID'],
];

export function readRecording(name: string): readonly Step[] {
  return JSON.parse(readFileSync(join(import.meta.dirname, '../golden', name), 'utf8')) as Step[];
}

/** Where a session is played: the steps that are no commands lay values down there, as Calico or a hand did. */
export interface Stage {
  /** For `--datastore`. */
  readonly url: string;
  layDown(step: Step): Promise<void> | void;
  values(): Promise<Map<string, string>> | Map<string, string>;
}

/** Every difference of every step, empty where ours does as Calico's does. */
export async function playRecording(steps: readonly Step[], client: Client, stage: Stage): Promise<string[]> {
  const found: string[] = [];
  let before = await compared(stage);
  for (const [i, step] of steps.entries()) {
    if (!step.argv) await stage.layDown(step);
    const seen = step.argv && (await client(step.argv, step.stdin ?? '', stage.url));
    const after = await compared(stage);
    if (step.argv && seen)
      for (const difference of [...outputDifferences(step, seen), ...storeDifferences(step, before, after)])
        found.push(`step ${i + 1}: ${step.argv.join(' ')}\n${difference}`);
    before = after;
  }
  return found;
}

async function compared(stage: Stage): Promise<Map<string, string>> {
  return new Map([...(await stage.values())].filter(([key]) => KINDS.test(key)));
}

/** A directory of the file datastore, read and written as files. */
export function fileStage(root: string): Stage {
  return {
    url: `file://${root}`,
    layDown({ put = {}, del = [] }) {
      for (const [key, value] of Object.entries(put)) {
        mkdirSync(dirname(root + key), { recursive: true });
        writeFileSync(root + key, value);
      }
      for (const key of del) rmSync(root + key, { force: true });
    },
    values() {
      const values = new Map<string, string>();
      if (!existsSync(join(root, 'calico'))) return values;
      for (const name of readdirSync(join(root, 'calico'), { recursive: true, encoding: 'utf8' })) {
        const key = `/calico/${name}`;
        if (statSync(root + key).isFile()) values.set(key, readFileSync(root + key, 'utf8').trimEnd());
      }
      return values;
    },
  };
}

function steady(text: string): string {
  return VOLATILE.reduce((kept, [pattern, name]) => kept.replace(pattern, name), text).replace(/\n+$/, '');
}

function outputDifferences(want: Step, got: Seen): string[] {
  const found: string[] = [];
  // Our exit codes 2, 3 and 4 stand for Calico's 1.
  if ((want.exit === 0) !== (got.exit === 0)) found.push(`exit ${got.exit}, Calico ${want.exit}`);
  const stdout = [steady(want.stdout ?? ''), steady(got.stdout)] as const;
  if (stdout[0] !== stdout[1] && !want.loose)
    found.push(`stdout, Calico:\n${stdout[0]}\nours:\n${stdout[1]}`);
  const [theirs, ours] = [steady(want.stderr ?? ''), steady(got.stderr)];
  const fits = want.loose ? ours !== '' && !ours.includes('    at ') : ours.includes(theirs);
  if (theirs && !fits) found.push(`stderr, Calico:\n${theirs}\nours:\n${ours}`);
  return found;
}

function storeDifferences(want: Step, before: Map<string, string>, after: Map<string, string>): string[] {
  const put = new Map([...after].filter(([key, value]) => before.get(key) !== value));
  const deleted = [...before.keys()].filter((key) => !after.has(key)).sort();
  const found: string[] = [];
  for (const key of new Set([...Object.keys(want.put ?? {}), ...put.keys()])) {
    const [theirs, ours] = [want.put?.[key], put.get(key)];
    if (comparable(theirs) !== comparable(ours))
      found.push(`stored ${key}\nCalico ${theirs}\nours   ${ours}`);
  }
  if (deleted.join() !== [...(want.del ?? [])].join())
    found.push(`deleted ${deleted.join()}, Calico ${want.del?.join()}`);
  return found;
}

/** The order of keys counts where a resource is stored: Calico writes bytes, and so do we. */
function comparable(value: string | undefined): string {
  if (value === undefined) return 'nothing';
  try {
    return JSON.stringify(withoutSequences(parseExactJson(steady(value))));
  } catch {
    return value;
  }
}

/** Sequence numbers start from the clock. */
function withoutSequences(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSequences);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, field]) => {
    if (key === 'sequenceNumber') return [key, 'SEQUENCE'];
    if (key === 'sequenceNumberForAllocation')
      return [key, Object.fromEntries(Object.keys(field as object).map((ordinal) => [ordinal, 'SEQUENCE']))];
    return [key, withoutSequences(field)];
  });
  return Object.fromEntries(entries);
}

const FOREIGN_VARIABLE = /^(?:TORTIE_|CALICO|ETCD_|DATASTORE)/;

function environment(datastore: string): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !FOREIGN_VARIABLE.test(name));
  return { ...Object.fromEntries(own), NO_COLOR: '1', TORTIE_DATASTORE: datastore };
}

/** The built program in a process of its own. */
export const spawnedClient: Client = (argv, stdin, datastore) =>
  new Promise((resolve, reject) => {
    const program = join(import.meta.dirname, '../../dist/cli/main.js');
    const child = spawn(process.execPath, [program, ...argv], {
      env: environment(datastore),
      timeout: 60_000,
    });
    const chunks = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream].setEncoding('utf8').on('data', (chunk: string) => {
        chunks[stream] += chunk;
      });
    child.on('error', reject).on('close', (code) => resolve({ exit: code ?? 124, ...chunks }));
    // A command that needs no input may be gone before it is written.
    child.stdin.on('error', () => {}).end(stdin);
  });

/** The same code in this process, a tenth of the time: its streams and environment are exchanged meanwhile. */
export const inProcessClient: Client = async (argv, stdin, datastore) => {
  const { tortie } = await import('../../src/cli/main.ts');
  const chunks = { stdout: '', stderr: '' };
  const kept = {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout.write,
    stderr: process.stderr.write,
  };
  const taking = (stream: 'stdout' | 'stderr') => (chunk: string | Uint8Array) => {
    chunks[stream] += chunk.toString();
    return true;
  };
  process.env = environment(datastore);
  Object.defineProperty(process, 'stdin', { value: Readable.from([Buffer.from(stdin)]), configurable: true });
  process.stdout.write = taking('stdout');
  process.stderr.write = taking('stderr');
  try {
    return { exit: await tortie(argv), ...chunks };
  } finally {
    process.env = kept.env;
    Object.defineProperty(process, 'stdin', { value: kept.stdin, configurable: true });
    process.stdout.write = kept.stdout;
    process.stderr.write = kept.stderr;
  }
};
