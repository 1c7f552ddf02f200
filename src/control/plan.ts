/** From what is to what should be: the steps, printable, in an order that never leaves a gap. */
import { formatIpv4 } from '../ip/ipv4.ts';
import { formatPrefix, type InterfaceAddress } from '../ip/prefix.ts';
import { reversePathFilterOf } from './contributions.ts';
import {
  formatRoute,
  type HostRoute,
  type HostState,
  isSameRoute,
  type PacketRules,
  type PlanStep,
  type TunnelDevice,
} from './ports.ts';

/**
 * The steps that make `observed` like `desired`: settings, then routes. Device first (routes by it need it up), then packet rules
 * (nothing may leave untranslated), then routes; each route by one replace, so that a mode flip has no moment
 * without a route.
 */
export function diff(desired: HostState, observed: HostState): PlanStep[] {
  return [...diffSettings(desired, observed), ...diffAllRoutes(desired.routes, observed.routes)];
}

export function diffAllRoutes(desired: HostState['routes'], observed: HostState['routes']): PlanStep[] {
  return diffRoutes(new Set([...desired.keys(), ...observed.keys()]), desired, observed);
}

/** All but the routes. The device's filter is off before its address goes, and on after one has come. */
export function diffSettings(desired: HostState, observed: HostState): PlanStep[] {
  const sysctls = diffSysctls(desired, observed);
  const filter = desired.device && reversePathFilterOf(desired.device.name);
  const isLast = (step: PlanStep) => step.op === 'set-sysctl' && step.name === filter && step.value !== '0';
  return [
    ...sysctls.filter((step) => !isLast(step)),
    ...(desired.device && observed.device ? diffDevice(desired.device, observed.device) : []),
    ...sysctls.filter(isLast),
    ...diffRules(desired.rules, observed.rules),
  ];
}

function diffSysctls(desired: HostState, observed: HostState): PlanStep[] {
  return [...desired.sysctls].flatMap(([name, value]): PlanStep[] => {
    const now = observed.sysctls.get(name);
    // Absent: the kernel has no such switch (IPv6 built out), or the interface went away meanwhile.
    return now === undefined || now === value ? [] : [{ op: 'set-sysctl', name, value }];
  });
}

function diffDevice(desired: TunnelDevice, observed: TunnelDevice): PlanStep[] {
  const steps: PlanStep[] = [];
  const device = desired.name;
  const has = (list: readonly InterfaceAddress[], a: InterfaceAddress) =>
    list.some((b) => b.address === a.address && b.length === a.length);
  if (observed.mtu !== desired.mtu) steps.push({ op: 'set-mtu', device, mtu: desired.mtu });
  if (!observed.up) steps.push({ op: 'set-up', device });
  for (const address of desired.addresses)
    if (!has(observed.addresses, address)) steps.push({ op: 'add-address', device, address });
  for (const address of observed.addresses)
    if (!has(desired.addresses, address)) steps.push({ op: 'delete-address', device, address });
  return steps;
}

function diffRules(desired: PacketRules | null, observed: PacketRules | null): PlanStep[] {
  return desired && JSON.stringify(desired) !== JSON.stringify(observed)
    ? [{ op: 'set-rules', rules: desired }]
    : [];
}

/** Tables of routes, or what can be asked like one. */
export interface RouteLookup {
  get(key: string): HostRoute | undefined;
}

/** The routes to these prefixes only. */
export function diffRoutes(keys: Iterable<string>, desired: RouteLookup, observed: RouteLookup): PlanStep[] {
  const steps: PlanStep[] = [];
  for (const key of keys) {
    const want = desired.get(key);
    const have = observed.get(key);
    if (want && (!have || !isSameRoute(want, have))) steps.push({ op: 'set-route', route: want });
    else if (!want && have) steps.push({ op: 'delete-route', prefix: have.prefix });
  }
  return steps;
}

/** One step as a person would type it. */
export function formatStep(step: PlanStep): string {
  switch (step.op) {
    case 'set-route':
      return `ip route replace ${formatRoute(step.route)}`;
    case 'delete-route':
      return `ip route delete ${formatPrefix(step.prefix)}`;
    case 'add-address':
      return `ip address add ${formatPrefix(step.address)} dev ${step.device}`;
    case 'delete-address':
      return `ip address delete ${formatPrefix(step.address)} dev ${step.device}`;
    case 'set-mtu':
      return `ip link set ${step.device} mtu ${step.mtu}`;
    case 'set-up':
      return `ip link set ${step.device} up`;
    case 'set-sysctl':
      return `echo ${step.value} > /proc/sys/${step.name}`;
    case 'set-rules':
      return `nft table ip tortie: ${formatRules(step.rules)}`;
  }
}

function formatRules(rules: PacketRules): string {
  const list = (prefixes: PacketRules['pools']) => prefixes.map(formatPrefix).join(', ');
  const snat = rules.tunnelAddress === null ? 'none' : formatIpv4(rules.tunnelAddress);
  return `pools {${list(rules.pools)}} nat {${list(rules.natPools)}} ${rules.device} snat ${snat} drop udp ${rules.udpPort}`;
}

/** The text of a whole plan: what golden tests hold and what a log line says. */
export function formatPlan(steps: readonly PlanStep[]): string {
  return steps.map((step) => `${formatStep(step)}\n`).join('');
}

/** What we believe the host has; kept between observations so that one change needs no look at the host. */
export class ObservedState {
  readonly routes: Map<string, HostRoute>;
  readonly sysctls: Map<string, string>;
  device: TunnelDevice | null;
  rules: PacketRules | null;

  constructor(state: HostState) {
    this.routes = new Map(state.routes);
    this.sysctls = new Map(state.sysctls);
    this.device = state.device;
    this.rules = state.rules;
  }

  /** A step succeeded. */
  take(step: PlanStep): void {
    if (step.op === 'set-route') this.routes.set(formatPrefix(step.route.prefix), step.route);
    else if (step.op === 'delete-route') this.routes.delete(formatPrefix(step.prefix));
    else if (step.op === 'set-sysctl') this.sysctls.set(step.name, step.value);
    else if (step.op === 'set-rules') this.rules = step.rules;
    else if (this.device) {
      this.device = afterDeviceStep(this.device, step);
      if (step.op === 'delete-address' && !this.device.addresses.length) this.#forgetRoutesBy(step.device);
    }
  }

  /** With an interface's last address the kernel takes the routes by it away, and tells nobody. */
  #forgetRoutesBy(device: string): void {
    for (const [key, route] of this.routes)
      if ('device' in route && route.device === device) this.routes.delete(key);
  }
}

function afterDeviceStep(device: TunnelDevice, step: PlanStep): TunnelDevice {
  switch (step.op) {
    case 'set-mtu':
      return { ...device, mtu: step.mtu };
    case 'set-up':
      return { ...device, up: true };
    case 'add-address':
      return { ...device, addresses: [...device.addresses, step.address] };
    case 'delete-address':
      return {
        ...device,
        addresses: device.addresses.filter((a) => formatPrefix(a) !== formatPrefix(step.address)),
      };
    default:
      return device;
  }
}
