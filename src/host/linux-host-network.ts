/**
 * The host's network by `ip` and `nft`.
 *
 * Theory of operation. `facts` and `observe` read JSON; `apply` turns runs of steps of one kind into one call:
 * links, addresses and routes into one `ip -batch`, packet rules into one nft transaction, sysctls into writes
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
import { formatRoute, ROUTE_PROTOCOL, WORKLOAD_INTERFACE_PREFIX } from '../control/ports.ts';
import { formatPrefix } from '../ip/prefix.ts';
import { output, run } from './commands.ts';
import { parseLinks, parseRoutes } from './ip-json.ts';
import { rulesText, rulesTextAfresh } from './packet-rules.ts';
import { followRoutes } from './route-events.ts';
import { readSysctl, type SysctlMemory, writeSysctl } from './sysctl.ts';

const LIST_ADDRESSES = ['ip', '-details', '-json', 'address', 'show'];
const LIST_ROUTES = ['ip', '-json', '-4', 'route', 'show', 'table', 'main'];
const LIST_RULES = ['nft', '--stateless', 'list', 'table', 'ip', 'tortie'];

export class LinuxHostNetwork implements HostNetwork {
  readonly #memory: SysctlMemory;
  /** The rules that we wrote last, and how nft lists them. */
  #written: { rules: PacketRules; listing: string } | undefined;

  /** Of the last facts; the name of an interface that came since is found by looking again. */
  #names: ReadonlyMap<number, string> = new Map();

  constructor(memory: SysctlMemory) {
    this.#memory = memory;
  }

  async facts(): Promise<HostFacts> {
    const [addressJson, routeJson] = await Promise.all([output(LIST_ADDRESSES), output(LIST_ROUTES)]);
    const { links, addresses } = parseLinks(addressJson);
    this.#names = new Map(links.map((link) => [link.index, link.name]));
    return {
      links: links.map((link) => ({ ...link, reversePathFilter: reversePathFilterOf(link.name) })),
      addresses,
      routes: parseRoutes(routeJson).foreign,
    };
  }

  async observe(device: string, sysctls: Iterable<string>): Promise<HostState> {
    const [routeJson, addressJson, listing] = await Promise.all([
      output([...LIST_ROUTES, 'proto', String(ROUTE_PROTOCOL)]),
      run([...LIST_ADDRESSES, 'dev', device]),
      this.#written ? run(LIST_RULES) : undefined,
    ]);
    const { links, addresses } = parseLinks(addressJson.status === 0 ? addressJson.stdout : '[]');
    const link = links[0];
    return {
      routes: parseRoutes(routeJson, ROUTE_PROTOCOL).own,
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
    let batch: PlanStep[] = [];
    const flush = async () => {
      if (batch.length) failed.push(...(await applyBatch(batch)));
      batch = [];
    };
    for (const step of steps) {
      if (step.op !== 'set-sysctl' && step.op !== 'set-rules') {
        batch.push(step);
        continue;
      }
      await flush();
      try {
        if (step.op === 'set-sysctl') this.#setSysctl(step.name, step.value);
        else await this.#setRules(step.rules);
      } catch (error) {
        failed.push({ step, reason: (error as Error).message });
      }
    }
    await flush();
    return failed;
  }

  watch(onEvent: (event: HostEvent) => void, signal: AbortSignal): void {
    followRoutes(onEvent, (index) => this.#names.get(index) ?? '', signal);
  }

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

type BatchStep = Exclude<PlanStep, { op: 'set-sysctl' | 'set-rules' }>;

function batchLine(step: BatchStep): string {
  switch (step.op) {
    case 'set-route':
      return `route replace ${formatRoute(step.route)}`;
    case 'delete-route':
      return `route delete ${formatPrefix(step.prefix)} proto ${ROUTE_PROTOCOL}`;
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
const ALREADY_GONE = /No such process|Cannot find device|Cannot assign requested address/;

async function applyBatch(steps: readonly PlanStep[]): Promise<FailedStep[]> {
  const lines = steps.map((step) => batchLine(step as BatchStep));
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
