/**
 * `tortie lab demo`, which scripts/demo runs: the page "Configuring IP-in-IP" comes true. The lab two-az, the
 * two commands of the page word for word, `verify` after each, the tables side by side, and one real captured
 * packet of each kind. Everything shown was observed in this run.
 */

import { readFileSync } from 'node:fs';
import { installedFile } from '../base/installation.ts';
import type { Random } from '../base/random.ts';
import type { Datastore } from '../store/datastore.ts';
import { openDatastore } from '../store/open.ts';
import { explainFrame } from '../wire/pretty-print.ts';
import { nodeEnvironment } from './agents.ts';
import { takeDown } from './down.ts';
import type { LabContext } from './lab.ts';
import { labPaths } from './names.ts';
import { runSuccessfully } from './program.ts';
import { readRecord, requireLab } from './record.ts';
import { labDatastore } from './store.ts';
import type { Topology } from './topology.ts';
import { loadTopology } from './topology-file.ts';
import { bringUp } from './up.ts';
import { type Sample, type Verification, type VerifyPair, verifyLab } from './verify.ts';
import { placeText, renderTable } from './verify-table.ts';

export interface DemoOptions {
  /** Leave the lab up at the end. */
  readonly keep: boolean;
  readonly random: Random;
  /** Takes what the demo shows. */
  readonly show: (text: string) => void;
}

const MODES = ['always', 'cross-subnet'] as const;
type Mode = (typeof MODES)[number];

/** The manifests are the page's, and ours to read as examples. */
function manifestOf(mode: Mode): string {
  return readFileSync(installedFile(`examples/pools/${mode}.yaml`), 'utf8');
}

/** @returns whether everything was as the resources demand */
export async function runDemo(options: DemoOptions, outer: LabContext): Promise<boolean> {
  const context = withElapsedTime(outer);
  const loaded = loadTopology(undefined, undefined);
  const { name } = loaded.topology;
  const wasUp = readRecord(context.labsDirectory, name) !== undefined;
  let ok = false;
  try {
    context.progress(`bringing up the lab ${name}${wasUp ? ', which is up already' : ''}`);
    await bringUp(loaded, context);
    ok = await showBothModes(loaded.topology, options, context);
  } finally {
    if (options.keep || wasUp) context.progress(`the lab ${name} stays up: tortie lab down ${name}`);
    else if (await takeDown(name, context))
      context.progress(`the lab ${name} is down, nothing of it is left`);
  }
  return ok;
}

async function showBothModes(
  topology: Topology,
  options: DemoOptions,
  context: LabContext,
): Promise<boolean> {
  const { record } = requireLab(context.labsDirectory, topology.name);
  const datastore = labDatastore(labPaths(context.labsDirectory, topology.name), record);
  const store = await openDatastore({ datastore, env: context.env });
  try {
    const verifications: Verification[] = [];
    for (const mode of MODES) {
      await applyPage(mode, topology, datastore, options, context);
      verifications.push(await verifyMode(mode, topology, store, options, context));
    }
    const [always, crossSubnet] = verifications as [Verification, Verification];
    options.show(sideBySide(topology, always, crossSubnet));
    options.show(packets(topology, always, crossSubnet));
    options.show(outside(crossSubnet));
    return verifications.every(({ result }) => result.ok);
  } finally {
    await store.close();
  }
}

/** The page's command, by the real `tortie apply -f -`. */
async function applyPage(
  mode: Mode,
  topology: Topology,
  datastore: string,
  { show }: DemoOptions,
  context: LabContext,
): Promise<void> {
  const manifest = manifestOf(mode);
  show(`\n$ tortie apply -f - << EOF\n${manifest}EOF\n`);
  const [program = '', ...words] = context.tortie;
  const paths = labPaths(context.labsDirectory, topology.name);
  const env = nodeEnvironment('', { topology, paths, datastore, env: context.env });
  show(await runSuccessfully(program, [...words, 'apply', '-f', '-'], { input: manifest, env }));
}

async function verifyMode(
  mode: Mode,
  topology: Topology,
  store: Datastore,
  { random }: DemoOptions,
  { clock, progress }: LabContext,
): Promise<Verification> {
  const verification = await verifyLab(topology, store, { clock, random });
  const { ok, pairs } = verification.result;
  progress(
    `${mode}: verified ${pairs.length} pairs by captured packets: ${ok ? 'all as demanded' : 'NOT as demanded'}`,
  );
  return verification;
}

function sideBySide(topology: Topology, always: Verification, crossSubnet: Verification): string {
  const cells = (pair: VerifyPair) => [
    pair.observed === pair.expected ? pair.observed : `${pair.observed} (expected ${pair.expected})`,
    pair.rttMs === null ? 'no answer' : `${pair.rttMs.toFixed(2)} ms`,
  ];
  const rows = always.result.pairs.map((pair, row) => [
    `${pair.from} > ${pair.to}`,
    `${placeText(topology, pair.fromNode)} > ${placeText(topology, pair.toNode)}`,
    ...cells(pair),
    ...cells(crossSubnet.result.pairs[row]!),
  ]);
  return `\n${renderTable([
    ['', '', 'ALWAYS', '', 'CROSS-SUBNET', ''],
    ['PING', 'NODES', 'OBSERVED', 'RTT', 'OBSERVED', 'RTT'],
    ...rows,
  ])}`;
}

/** One encapsulated and one direct request between the same two neighbours, and one that crosses zones. */
function packets(topology: Topology, always: Verification, crossSubnet: Verification): string {
  const zoneOf = (node: string) => topology.nodes.find(({ name }) => name === node)?.zone;
  const pairs = crossSubnet.result.pairs;
  const neighbours = pairs.find((pair) => zoneOf(pair.fromNode) === zoneOf(pair.toNode));
  const strangers = pairs.find((pair) => zoneOf(pair.fromNode) !== zoneOf(pair.toNode));
  return [
    packet('always', neighbours, always.samples),
    packet('cross-subnet', neighbours, crossSubnet.samples),
    packet('cross-subnet', strangers, crossSubnet.samples),
  ].join('');
}

function packet(mode: Mode, pair: VerifyPair | undefined, samples: readonly Sample[]): string {
  const sample = samples.find(({ from, to }) => from === pair?.from && to === pair.to);
  if (!sample || !pair) return '';
  return `\n${mode}: ${pair.from} > ${pair.to} ${sample.form}, captured at the fabric's port of ${pair.fromNode}\n${explainFrame(sample.seen.frame)}\n`;
}

function outside({ result }: Verification): string {
  const lines = result.nat.map(
    (row) =>
      `  ${row.from} > ${row.to}: seen there as ${row.observedSource ?? 'nobody'}, expected ${row.expectedSource ?? 'nobody'}`,
  );
  return `\nnat-outgoing: out of the pool a workload speaks with its node's address\n${lines.join('\n')}\n\n`;
}

function withElapsedTime(context: LabContext): LabContext {
  const start = context.clock.monotonicMs();
  const seconds = () => ((context.clock.monotonicMs() - start) / 1000).toFixed(1).padStart(5);
  return { ...context, progress: (line) => context.progress(`[${seconds()} s] ${line}`) };
}
