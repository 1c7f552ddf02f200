/** `tortie explain SRC DST`: both directions of a conversation, as the resources demand them. */

import { UsageError } from '../../base/errors.ts';
import { ClusterView } from '../../control/cluster-view.ts';
import { type Direction, type Endpoint, type Explanation, explain } from '../../control/explain.ts';
import { formatIpv4, type Ipv4, parseIpv4 } from '../../ip/ipv4.ts';
import { formatPrefix } from '../../ip/prefix.ts';
import { ROOT } from '../../model/keys.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDatastoreOptions, type DatastoreOptions, openFromOptions } from '../datastore-options.ts';

export function run(argv: readonly string[]): Promise<number> {
  const command = addDatastoreOptions(
    newCommand('explain', 'Say how packets between two addresses go, in both directions, and why')
      .argument('<source>', "an address, or a workload's or a node's name")
      .argument('<destination>', 'likewise')
      .option('--json', 'for programs')
      .addHelpText(
        'after',
        '\nExits with 1 where one of the two directions is unroutable.\n\nExample:\n  $ tortie explain w1 192.168.77.129',
      ),
  );
  return runCommand(command.action(handler(explainPair)), argv);
}

async function explainPair(
  source: string,
  destination: string,
  options: DatastoreOptions & { json?: true },
): Promise<number> {
  const view = new ClusterView();
  const store = await openFromOptions(options, process.env);
  try {
    view.resync((await store.list(ROOT)).entries);
  } finally {
    await store.close();
  }
  const explanation = explain(view, addressOf(view, source), addressOf(view, destination));
  process.stdout.write(
    options.json ? `${JSON.stringify(asJson(explanation), null, 2)}\n` : page(explanation),
  );
  return [explanation.forward, explanation.back].some(({ verdict }) => verdict === 'unroutable') ? 1 : 0;
}

/** An address as it is; else the first address of a workload or the address of a node of that name. */
function addressOf(view: ClusterView, text: string): Ipv4 {
  const address = parseIpv4(text);
  if (address !== undefined) return address;
  const workloads = [...view.workloads.values()].filter((w) => w.name === text || w.shortName === text);
  const found = workloads[0]?.addresses[0] ?? view.nodes.get(text)?.address?.address;
  if (found !== undefined) return found;
  const names = [...view.workloads.values()].map((w) => w.shortName).concat([...view.nodes.keys()]);
  throw new UsageError(`expected an address or the name of a workload or node, got "${text}"`, {
    hint: names.length
      ? `known names: ${names.slice(0, 20).join(', ')}`
      : 'the datastore has no workloads and no nodes',
  });
}

/** Numbers and prefixes as people write them. */
function asJson(explanation: Explanation): object {
  const endpoint = (e: Endpoint) => ({
    ...e,
    address: formatIpv4(e.address),
    block: e.block && formatPrefix(e.block),
  });
  const direction = (d: Direction) => ({
    ...d,
    source: endpoint(d.source),
    destination: endpoint(d.destination),
  });
  return { ...explanation, forward: direction(explanation.forward), back: direction(explanation.back) };
}

function page({ forward, back, asymmetry }: Explanation): string {
  const lines = [...section(forward), '', ...section(back)];
  if (asymmetry) lines.push('', `Warning: ${asymmetry}`);
  return `${lines.join('\n')}\n`;
}

function section(d: Direction): string[] {
  const row = (name: string, value: string) => `  ${name.padEnd(13)} ${value}`;
  return [
    `${formatIpv4(d.source.address)} -> ${formatIpv4(d.destination.address)}: ${d.verdict}`,
    row('because', d.reason),
    row('source', describe(d.source)),
    row('destination', describe(d.destination)),
    ...(d.route ? [row('route', d.route)] : []),
    ...(d.outer
      ? [row('outer header', `${d.outer.source} -> ${d.outer.destination}, protocol ${d.outer.protocol}`)]
      : []),
    ...(d.outer ? [row('MTU', `${d.overheadBytes} bytes less than the underlay's`)] : []),
    row('NAT', d.nat),
    row('source check', d.sourceCheck),
    ...d.warnings.map((warning) => row('warning', warning)),
  ];
}

function describe(e: Endpoint): string {
  const parts = [e.what];
  if (e.node !== null) parts.push(`on ${e.node}`);
  if (e.block) parts.push(`block ${formatPrefix(e.block)} of ${e.blockOwner ?? 'nobody'}`);
  if (e.pool !== null) parts.push(`pool ${e.pool}`);
  return parts.join(', ');
}
