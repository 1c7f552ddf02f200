/** What `lab verify` found, for people. */
import type { Topology } from './topology.ts';
import type { VerifyPair, VerifyResult } from './verify.ts';

/** Columns as wide as their widest cell, two blanks between; no blanks at the ends of lines. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** `node1 (az-a)`, for a reader who has the zones in mind. */
export function placeText(topology: Topology, node: string): string {
  return `${node} (${topology.nodes.find(({ name }) => name === node)?.zone ?? '?'})`;
}

export function renderVerify(topology: Topology, result: VerifyResult): string {
  const pairs = result.pairs.map((pair) => [
    pair.from,
    pair.to,
    placeText(topology, pair.fromNode),
    placeText(topology, pair.toNode),
    pair.mode ?? 'no pool',
    pair.expected,
    pair.observed + (pair.transport === 'udp' ? ' (udp)' : ''),
    `${pair.received}/${pair.sent}`,
    pair.rttMs === null ? '-' : `${pair.rttMs.toFixed(2)} ms`,
    judgement(pair),
  ]);
  const nat = result.nat.map((row) => [
    row.from,
    row.to,
    row.expectedSource ?? 'nobody',
    row.observedSource ?? 'nobody',
    row.reachable ? 'yes' : 'no',
    row.expectedSource === row.observedSource ? 'ok' : 'DIFFERS',
  ]);
  const pairTable = renderTable([
    ['FROM', 'TO', 'FROM NODE', 'TO NODE', 'MODE', 'EXPECTED', 'OBSERVED', 'ANSWERED', 'RTT', ''],
    ...pairs,
  ]);
  const natTable = renderTable([
    ['FROM', 'TO', 'EXPECTED SOURCE', 'OBSERVED SOURCE', 'ANSWERED', ''],
    ...nat,
  ]);
  return `${pairTable}\n${natTable}\n${summary(result)}\n`;
}

function judgement(pair: VerifyPair): string {
  if (pair.fromAddress === null || pair.toAddress === null) return 'NO ADDRESS';
  return pair.expected === pair.observed ? 'ok' : 'DIFFERS';
}

/** Workloads of the topology that the datastore does not know, as after it was emptied. */
function withoutAddress(result: VerifyResult): string[] {
  const names = result.pairs.flatMap(({ from, fromAddress, to, toAddress }) => [
    ...(fromAddress === null ? [from] : []),
    ...(toAddress === null ? [to] : []),
  ]);
  return [...new Set(names)].sort();
}

function summary(result: VerifyResult): string {
  const differing = result.pairs.filter((pair) => pair.expected !== pair.observed).length;
  const counts = new Map<string, number>();
  for (const { observed } of result.pairs) counts.set(observed, (counts.get(observed) ?? 0) + 1);
  const forms = [...counts].map(([form, count]) => `${count} ${form}`).join(', ');
  const unknown = withoutAddress(result);
  if (unknown.length > 0)
    return `${result.lab}: the datastore holds no address of ${unknown.join(', ')}, so nothing can be sent there ('tortie lab up' attaches workloads again, also after the datastore was emptied); of ${result.pairs.length} pairs: ${forms}`;
  return result.ok
    ? `${result.lab}: all ${result.pairs.length} pairs are as the resources demand: ${forms}`
    : `${result.lab}: not as the resources demand; of ${result.pairs.length} pairs ${differing} differ (${forms})`;
}
