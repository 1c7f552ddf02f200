/** `tortie ipam show|check|release|configure|split`: the addresses, in Calico's words. */
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../base/clock.ts';
import { FailedError, UsageError } from '../../base/errors.ts';
import { systemRandom } from '../../base/random.ts';
import { wholeNumber } from '../../base/whole-number.ts';
import { createAddressAllocator } from '../../control/address-allocator.ts';
import { IpamStore } from '../../control/ipam-store.ts';
import { parseIpv4 } from '../../ip/ipv4.ts';
import { readSnapshot } from '../../ipam/check.ts';
import { ROOT } from '../../model/keys.ts';
import type { Datastore } from '../../store/datastore.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDatastoreOptions, type DatastoreOptions, openFromOptions } from '../datastore-options.ts';
import { mend, readReport, reportOf } from '../ipam-report.ts';
import { borrowedTable, configurationTable, utilization, utilizationTable } from '../output/ipam-tables.ts';
import { splitPool } from '../split-pool.ts';

/** A node's blocks beyond that are no limit. */
const MOST_BLOCKS_MAX = 999_999;

interface ShowOptions extends DatastoreOptions {
  readonly ip?: string;
  readonly showBlocks?: true;
  readonly showBorrowed?: true;
  readonly showConfiguration?: true;
  readonly json?: true;
}

interface CheckOptions extends DatastoreOptions {
  readonly output?: string;
  readonly json?: true;
}

interface ReleaseOptions extends DatastoreOptions {
  readonly ip?: string;
  readonly fromReport?: string;
}

interface ConfigureOptions extends DatastoreOptions {
  readonly strictaffinity?: string;
  readonly maxBlocksPerHost?: string;
}

interface SplitOptions extends DatastoreOptions {
  readonly cidr?: string;
  readonly name?: string;
}

export async function run(argv: readonly string[]): Promise<number> {
  const command = newCommand('ipam', 'Show, check, release and configure addresses');
  const commands = [
    command
      .command('show')
      .description('Show which addresses are in use: by pool, by block, or one')
      .option('--ip <address>', 'who has this address')
      .option('--show-blocks', 'a line for each block too')
      .option('--show-borrowed', "the addresses that nodes hold of others' blocks")
      .option('--show-configuration', 'how addresses are given')
      .option('--json', 'print JSON (pools and blocks)')
      .action(handler(show)),
    command
      .command('check')
      .description(
        'Hold blocks, handles, affinities, nodes and workloads against each other; 1 where they differ',
      )
      .option('-o, --output <file>', 'write the report there, for `ipam release --from-report`')
      .option('--json', 'print the report as JSON')
      .action(handler(check)),
    command
      .command('release')
      .description('Release an address that nobody uses any more, or all that a report names')
      .option('--ip <address>', 'this address')
      .option(
        '--from-report <file>',
        'what a report of `ipam check -o` calls leaked, left over or miscounted',
      )
      .action(handler(release)),
    command
      .command('configure')
      .description('Change how addresses are given')
      .option('--strictaffinity <true|false>', 'whether a node may not borrow from others')
      .option('--max-blocks-per-host <number>', 'most blocks of one node; 0 is the default, 20')
      .action(handler(configure)),
    command
      .command('split')
      .description('Split a pool into equal smaller ones; what is allocated stays where it is')
      .argument('<number>', 'how many: a power of two')
      .option('--cidr <cidr>', 'the pool of this CIDR')
      .option('--name <name>', 'the pool of this name')
      .action(handler(split)),
  ];
  for (const each of commands) addDatastoreOptions(each);
  return runCommand(command, argv);
}

async function withStore(
  options: DatastoreOptions,
  use: (store: Datastore, ipam: IpamStore) => Promise<number>,
): Promise<number> {
  const store = await openFromOptions(options, process.env);
  try {
    return await use(store, new IpamStore(partsOf(store)));
  } finally {
    await store.close();
  }
}

function partsOf(store: Datastore) {
  const warn = (fields: object, message: string) =>
    process.stderr.write(`${message}: ${Object.values(fields).join(': ')}\n`);
  const logger = { debug() {}, info() {}, warn, error: warn };
  return { store, clock: systemClock, random: systemRandom, logger };
}

function show(options: ShowOptions): Promise<number> {
  return withStore(options, async (store, ipam) => {
    if (options.ip !== undefined) return showAddress(store, options.ip);
    if (options.showConfiguration) {
      process.stdout.write(configurationTable(await ipam.config()));
      return 0;
    }
    const [pools, blocks] = await Promise.all([ipam.resources('IPPool'), ipam.blocks()]);
    const values = blocks.map(({ value }) => value);
    const usage = utilization(pools, values);
    if (options.showBorrowed) process.stdout.write(borrowedTable(values));
    else if (options.json) process.stdout.write(`${JSON.stringify(usage, null, 2)}\n`);
    else process.stdout.write(utilizationTable(usage, options.showBlocks ?? false));
    return 0;
  });
}

async function showAddress(store: Datastore, text: string): Promise<number> {
  const address = parseIpv4(text);
  if (address === undefined) {
    // Calico says this one on stdout.
    process.stdout.write(`Error executing command: invalid IP address specified: ${text}\n`);
    return 2;
  }
  const holder = await createAddressAllocator(partsOf(store)).holder(address);
  const attributes = Object.entries(holder?.secondary ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = !holder
    ? [`${text} is not assigned`]
    : attributes.length === 0
      ? [`IP ${text} is in use`, 'No attributes defined']
      : [`IP ${text} is in use`, 'Attributes:', ...attributes.map(([key, value]) => `  ${key}: ${value}`)];
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}

function check(options: CheckOptions): Promise<number> {
  return withStore(options, async (store) => {
    const { entries } = await store.list(ROOT);
    const snapshot = readSnapshot(entries.map(({ key, value }) => [key, value] as const));
    const report = reportOf(snapshot);
    const json = JSON.stringify(report, null, 2);
    if (options.output) writeFileSync(options.output, `${json}\n`);
    const total = report.problems.length + report.leaked.length;
    const addresses = snapshot.blocks.reduce(
      (sum, { allocations }) => sum + allocations.filter((index) => index !== null).length,
      0,
    );
    const lines = [
      `Checked ${snapshot.blocks.length} blocks, ${addresses} addresses, ${snapshot.handles.size} handles.`,
      ...report.problems,
      ...report.leaked.map(
        ({ address, handle, why }) => `${address} (${handle ?? 'no handle'}) is leaked: ${why}`,
      ),
      total === 0 ? 'No problems found.' : `Found ${total} problem${total === 1 ? '' : 's'}.`,
    ];
    process.stdout.write(`${options.json ? json : lines.join('\n')}\n`);
    return total === 0 ? 0 : 1;
  });
}

function release(options: ReleaseOptions): Promise<number> {
  // With nothing to release it says nothing and ends with 0, as calicoctl does (test/golden/ipam.json).
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const report = options.fromReport === undefined ? undefined : readReport(options.fromReport);
  return withStore(options, async (store, ipam) => {
    const allocator = createAddressAllocator(partsOf(store));
    if (options.ip !== undefined) {
      const address = parseIpv4(options.ip);
      if (address === undefined) throw new UsageError(`invalid IP address specified: ${options.ip}`);
      if (!(await allocator.releaseAddress(address)))
        throw new FailedError('ERR_ADDRESS_NOT_ASSIGNED', `IP address ${options.ip} is not assigned`);
      say(`Successfully released IP address ${options.ip}`);
    }
    if (report) await mend(report, allocator, ipam, say);
    return 0;
  });
}

function configure(options: ConfigureOptions): Promise<number> {
  const { strictaffinity, maxBlocksPerHost } = options;
  if (strictaffinity === undefined && maxBlocksPerHost === undefined)
    throw new UsageError('ipam configure: expected --strictaffinity or --max-blocks-per-host');
  if (strictaffinity !== undefined && strictaffinity !== 'true' && strictaffinity !== 'false')
    throw new UsageError('invalid value. Use true or false to set strictaffinity');
  const most =
    maxBlocksPerHost === undefined
      ? undefined
      : wholeNumber('--max-blocks-per-host', maxBlocksPerHost, 0, MOST_BLOCKS_MAX);
  return withStore(options, async (_store, ipam) => {
    await ipam.changeConfig((old) => ({
      ...old,
      ...(strictaffinity !== undefined && { strict_affinity: strictaffinity === 'true' }),
      ...(most !== undefined && { maxBlocksPerHost: most }),
    }));
    if (strictaffinity) process.stdout.write(`Successfully set StrictAffinity to: ${strictaffinity}\n`);
    if (most !== undefined) process.stdout.write(`Successfully set MaxBlocksPerHost to: ${most}\n`);
    return 0;
  });
}

function split(number: string, { cidr, name, ...options }: SplitOptions): Promise<number> {
  if ((cidr === undefined) === (name === undefined))
    throw new UsageError('ipam split: expected --cidr or --name, one of them');
  return withStore(options, async (store, ipam) => {
    const pools = await ipam.resources('IPPool');
    const pool = pools.find(({ metadata, spec }) => (name ? metadata.name === name : spec.cidr === cidr));
    if (!pool) throw new FailedError('ERR_NO_POOL', `there is no IP pool ${name ?? cidr}`);
    const children = await splitPool(store, pool, Number(number));
    process.stdout.write(`Successfully split IP pool ${pool.metadata.name} into ${children.join(', ')}\n`);
    return 0;
  });
}
