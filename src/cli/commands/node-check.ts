/** `tortie node check`: can an agent run here, and would cross-subnet do what one expects? */
import { checkPins, pinRoot } from '../../agent/fast-path-pins.ts';
import { TortieError } from '../../base/errors.ts';
import { checkCluster, type Finding } from '../../control/cluster-check.ts';
import { ClusterView } from '../../control/cluster-view.ts';
import { checkHost, type HostFinding } from '../../host/host-check.ts';
import { ownAddresses } from '../../host/own-addresses.ts';
import { ROOT } from '../../model/keys.ts';
import { type DatastoreOptions, openFromOptions } from '../datastore-options.ts';

type Options = DatastoreOptions & { readonly device: string; readonly json?: true };
type Line = HostFinding | Finding;

export async function nodeCheck(options: Options): Promise<number> {
  const host = [...(await checkHost(options.device)), ...checkPins(pinRoot(process.env))];
  const cluster = await clusterFindings(options);
  const missing = host.some((finding) => finding.level === 'missing');
  const misbehaves = cluster.some((finding) => finding.level === 'fail');
  if (options.json)
    process.stdout.write(`${JSON.stringify({ ok: !missing && !misbehaves, host, cluster }, null, 2)}\n`);
  else {
    process.stdout.write(`Host\n${page(host)}\nDatastore and nodes\n${page(cluster)}\n`);
    process.stdout.write(`${verdict(missing, misbehaves)}\n`);
  }
  return missing ? 4 : misbehaves ? 1 : 0;
}

function verdict(missing: boolean, misbehaves: boolean): string {
  if (missing) return 'An agent cannot run on this host';
  return misbehaves
    ? 'An agent can run on this host, but cross-subnet would misbehave'
    : 'An agent can run on this host, and cross-subnet does what the subnets say';
}

async function clusterFindings(options: Options): Promise<Finding[]> {
  const subject = 'datastore';
  try {
    const store = await openFromOptions(options, process.env);
    try {
      const view = new ClusterView();
      view.resync((await store.list(ROOT)).entries);
      const addresses = await ownAddresses().catch(() => []);
      const lengthHere = (address: number) => addresses.find((a) => a.address === address)?.length;
      const size = `${view.nodes.size} nodes, ${view.pools.size} pools, ${view.blocks.size} blocks`;
      return [{ level: 'ok', subject, text: `${store.url}: ${size}` }, ...checkCluster(view, lengthHere)];
    } finally {
      await store.close();
    }
  } catch (error) {
    if (!(error instanceof TortieError)) throw error;
    return [{ level: 'fail', subject, text: error.message, ...(error.hint ? { mend: error.hint } : {}) }];
  }
}

const WORD: Readonly<Record<Line['level'], string>> = {
  ok: 'OK',
  warn: 'WARN',
  fail: 'FAIL',
  missing: 'FAIL',
};

function page(findings: readonly Line[]): string {
  return findings
    .map(
      (f) =>
        `  ${WORD[f.level].padEnd(5)} ${f.subject}: ${f.text}\n${f.mend ? `        mend: ${f.mend}\n` : ''}`,
    )
    .join('');
}
