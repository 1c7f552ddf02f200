/**
 * The report of `ipam check -o`, and what `ipam release --from-report` makes of it. Between the two, things change:
 * each entry is held against the datastore again, and left alone where it is not as reported.
 */
import { readFileSync } from 'node:fs';
import { InvalidError } from '../base/errors.ts';
import type { AddressAllocator } from '../control/address-allocator.ts';
import type { IpamStore } from '../control/ipam-store.ts';
import { formatIpv4, type Ipv4, parseIpv4 } from '../ip/ipv4.ts';
import { type Prefix, parsePrefix } from '../ip/prefix.ts';
import {
  goneOwners,
  type IpamSnapshot,
  leakedAddresses,
  type Miscount,
  miscounts,
  type StaleAffinity,
  snapshotProblems,
  staleAffinities,
} from '../ipam/check.ts';

export interface Report {
  readonly version: 1;
  readonly problems: readonly string[];
  readonly leaked: readonly {
    readonly address: string;
    readonly handle: string | null;
    readonly why: string;
  }[];
  readonly handles: readonly Miscount[];
  readonly affinities: readonly StaleAffinity[];
  /** Nodes that hold blocks and do not exist. */
  readonly nodes: readonly string[];
}

export function reportOf(snapshot: IpamSnapshot): Report {
  return {
    version: 1,
    problems: snapshotProblems(snapshot),
    leaked: leakedAddresses(snapshot).map((leak) => ({ ...leak, address: formatIpv4(leak.address) })),
    handles: miscounts(snapshot),
    affinities: staleAffinities(snapshot),
    nodes: goneOwners(snapshot),
  };
}

interface Mendable {
  readonly leaked: readonly { readonly address: Ipv4; readonly handle: string | null }[];
  readonly handles: readonly Miscount[];
  readonly affinities: readonly { readonly node: string; readonly block: Prefix }[];
  readonly nodes: readonly string[];
}

/** @throws InvalidError */
export function readReport(file: string): Mendable {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as Partial<Report>;
    return {
      leaked: (report.leaked ?? []).map(({ address, handle }) => ({
        address: expected('an address', address, parseIpv4),
        handle,
      })),
      handles: report.handles ?? [],
      affinities: (report.affinities ?? []).map(({ node, cidr }) => ({
        node,
        block: expected('a CIDR', cidr, (text) => parsePrefix(text)),
      })),
      nodes: report.nodes ?? [],
    };
  } catch (error) {
    throw new InvalidError(
      'ERR_IPAM_REPORT',
      `${file} is no report of \`ipam check -o\`: ${(error as Error).message}`,
    );
  }
}

function expected<T>(what: string, text: string, parse: (text: string) => T | undefined): T {
  const parsed = parse(text);
  if (parsed === undefined) throw new SyntaxError(`expected ${what}, got ${text}`);
  return parsed;
}

/** Mends what is still as reported, a line for each. Nodes first: what a node that is gone held is not looked at singly. */
export async function mend(
  report: Mendable,
  allocator: AddressAllocator,
  ipam: IpamStore,
  say: (line: string) => void,
): Promise<void> {
  for (const node of report.nodes) {
    if (await ipam.resource('Node', node)) continue;
    if ((await ipam.affinities(node)).length === 0) continue;
    await allocator.releaseNode(node);
    say(`Successfully released what node ${node} held`);
  }
  for (const { address, handle } of report.leaked) {
    const holder = await allocator.holder(address);
    // Somebody may have been given the address since the report was written.
    if (!holder || (holder.handle_id ?? null) !== handle) continue;
    await allocator.releaseAddress(address);
    say(`Successfully released IP address ${formatIpv4(address)}`);
  }
  for (const { node, block } of report.affinities)
    if (await ipam.resource('Node', node)) await allocator.settleAffinity(node, block);
  for (const miscount of report.handles)
    if (await allocator.mendCount(miscount))
      say(`Successfully mended the count of handle ${miscount.handle} in ${miscount.cidr}`);
}
