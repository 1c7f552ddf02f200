/**
 * The host's network by `ip` and `nft`.
 *
 * Theory of operation. `facts` and `observe` read `ip`'s JSON, and routes from the kernel itself, since there may be
 * tens of thousands; `apply` turns runs of steps of one kind into one call: links and addresses into one `ip -batch`,
 * routes into rtnetlink requests (kernel-routes.ts), packet rules into one nft transaction, sysctls into writes
 * below /proc/sys (whose old values are remembered for `--cleanup`). A batch goes on after a line that fails, and
 * `ip` says which lines these were. Whether the nftables table is still as we wrote it is known by its listing:
 * the kernel's own words of it right after the write are kept and compared.
 * All of it works on the network namespace that the process is in.
 */
import type {
  FailedStep,
  HostEvent,
  HostFacts,
  HostNetwork,
  HostState,
  PacketRules,
  PlanStep,
} from '../control/ports.ts';
import { WORKLOAD_INTERFACE_PREFIX } from '../control/ports.ts';
import { formatPrefix } from '../ip/prefix.ts';
import { output, run } from './commands.ts';
import { parseLinks } from './ip-json.ts';
import { applyRoutes, linkNames, type RouteStep, readForeignRoutes, readOwnRoutes } from './kernel-routes.ts';
import { rulesText, rulesTextAfresh } from './packet-rules.ts';
import { followRoutes } from './route-events.ts';
import { readSysctl, type SysctlMemory, writeSysctl } from './sysctl.ts';

const LIST_ADDRESSES = ['ip', '-details', '-json', 'address', 'show'];
const LIST_RULES = ['nft', '--stateless', 'list', 'table', 'ip', 'tortie'];

export class LinuxHostNetwork implements HostNetwork {
  readonly #memory: SysctlMemory;
  /** The rules that we wrote last, and how nft lists them. */
  #written: { rules: PacketRules; listing: string } | undefined;

  /** Of the last look. */
  #names: ReadonlyMap<number, string> = new Map();

  constructor(memory: SysctlMemory) {
    this.#memory = memory;
  }

  async facts(): Promise<HostFacts> {
    const { links, addresses } = parseLinks(await output(LIST_ADDRESSES));
    this.#names = new Map(links.map((link) => [link.index, link.name]));
    return {
      links: links.map((link) => ({ ...link, reversePathFilter: reversePathFilterOf(link.name) })),
      addresses,
      routes: readForeignRoutes(this.#nameOf),
    };
  }

  async observe(
    device: string,
    sysctls: Iterable<string>,
    what: 'all' | 'settings' = 'all',
  ): Promise<HostState> {
    const [addressJson, listing] = await Promise.all([
      run([...LIST_ADDRESSES, 'dev', device]),
      this.#written ? run(LIST_RULES) : undefined,
    ]);
    const { links, addresses } = parseLinks(addressJson.status === 0 ? addressJson.stdout : '[]');
    const link = links[0];
    return {
      routes: what === 'all' ? readOwnRoutes(this.#nameOf) : new Map(),
      device: link ? { name: device, mtu: link.mtu, up: link.up, addresses } : null,
      sysctls: await this.readSysctls(sysctls),
      rules: listing && listing.stdout === this.#written?.listing ? this.#written.rules : null,
    };
  }

  async readSysctls(names: Iterable<string>): Promise<ReadonlyMap<string, string>> {
    const values = new Map<string, string>();
    for (const name of names) {
      const value = readSysctl(name);
      if (value !== undefined) values.set(name, value);
    }
    return values;
  }

  async apply(steps: readonly PlanStep[]): Promise<readonly FailedStep[]> {
    const failed: FailedStep[] = [];
    for (let from = 0; from < steps.length; ) {
      const step = steps[from]!;
      const group = groupOf(step);
      let to = from + 1;
      // Sysctls and packet rules one by one; runs of links and addresses, and runs of routes, at once.
      if (group !== 'single') while (to < steps.length && groupOf(steps[to]!) === group) to++;
      const run = steps.slice(from, to);
      if (group === 'routes') failed.push(...applyRoutes(run as RouteStep[]));
      else if (group === 'device') failed.push(...(await applyBatch(run as DeviceStep[])));
      else failed.push(...(await this.#applySingle(step)));
      from = to;
    }
    return failed;
  }

  async #applySingle(step: PlanStep): Promise<FailedStep[]> {
    try {
      if (step.op === 'set-sysctl') this.#setSysctl(step.name, step.value);
      else if (step.op === 'set-rules') await this.#setRules(step.rules);
      return [];
    } catch (error) {
      return [{ step, reason: (error as Error).message }];
    }
  }

  watch(onEvent: (event: HostEvent) => void, signal: AbortSignal): void {
    followRoutes(onEvent, this.#nameOf, signal);
  }

  /** An interface that came since the last look is found by looking again; '' for one that is gone already. */
  readonly #nameOf = (index: number): string => {
    if (!this.#names.has(index)) this.#names = linkNames();
    return this.#names.get(index) ?? '';
  };

  #setSysctl(name: string, value: string): void {
    this.#memory.remember(name);
    writeSysctl(name, value);
  }

  async #setRules(rules: PacketRules): Promise<void> {
    const attempt = await run(['nft', '-f', '-'], rulesText(rules));
    if (attempt.status !== 0) await output(['nft', '-f', '-'], rulesTextAfresh(rules));
    this.#written = { rules, listing: await output(LIST_RULES) };
  }
}

/** The kernel takes the greater of `all` and the interface's own. Workloads' interfaces are ours anyway. */
function reversePathFilterOf(link: string): number {
  if (link.startsWith(WORKLOAD_INTERFACE_PREFIX)) return 0;
  const values = ['all', link].map((name) => Number(readSysctl(`net/ipv4/conf/${name}/rp_filter`) ?? 0));
  return Math.max(...values);
}

type DeviceStep = Exclude<PlanStep, RouteStep | { op: 'set-sysctl' | 'set-rules' }>;

function groupOf(step: PlanStep): 'routes' | 'device' | 'single' {
  if (step.op === 'set-route' || step.op === 'delete-route') return 'routes';
  return step.op === 'set-sysctl' || step.op === 'set-rules' ? 'single' : 'device';
}

function batchLine(step: DeviceStep): string {
  switch (step.op) {
    case 'add-address':
      return `address replace ${formatPrefix(step.address)} dev ${step.device}`;
    case 'delete-address':
      return `address delete ${formatPrefix(step.address)} dev ${step.device}`;
    case 'set-mtu':
      return `link set dev ${step.device} mtu ${step.mtu}`;
    case 'set-up':
      return `link set dev ${step.device} up`;
  }
}

/** What went away meanwhile need not be deleted. */
const ALREADY_GONE = /Cannot find device|Cannot assign requested address/;

async function applyBatch(steps: readonly DeviceStep[]): Promise<FailedStep[]> {
  const lines = steps.map(batchLine);
  const result = await run(['ip', '-force', '-batch', '-'], `${lines.join('\n')}\n`);
  if (result.status === 0) return [];
  const failed = failedLines(result.stderr);
  if (!failed.size) return steps.map((step) => ({ step, reason: result.stderr.trim() }));
  return [...failed].flatMap(([line, reason]) => {
    const step = steps[line - 1];
    const gone = step?.op.startsWith('delete-') && ALREADY_GONE.test(reason);
    return step && !gone ? [{ step, reason }] : [];
  });
}

/** `ip -force -batch -` says what went wrong, then `Command failed -:3`, the number of the line. */
function failedLines(stderr: string): Map<number, string> {
  const failed = new Map<number, string>();
  let said: string[] = [];
  for (const line of stderr.split('\n')) {
    const match = /^Command failed -:(\d+)$/.exec(line);
    if (!match) said.push(line.trim());
    else {
      failed.set(Number(match[1]), said.filter(Boolean).join(' '));
      said = [];
    }
  }
  return failed;
}
