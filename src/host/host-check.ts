/** What this host lacks or has in the way, each with the command that mends it. */
import { accessSync, constants } from 'node:fs';
import { CAPABILITY, hasCapability } from '../io/capabilities.ts';
import { run } from './commands.ts';
import { parseLinks } from './ip-json.ts';
import { readSysctl } from './sysctl.ts';

export interface HostFinding {
  /** `missing`: no agent can run here; `warn`: it can, but something may bite. */
  readonly level: 'ok' | 'warn' | 'missing';
  readonly subject: string;
  readonly text: string;
  readonly mend?: string;
}

export async function checkHost(device: string): Promise<HostFinding[]> {
  return [
    checkTun(),
    checkCapability('CAP_NET_ADMIN', CAPABILITY.NET_ADMIN),
    checkCapability('CAP_NET_RAW', CAPABILITY.NET_RAW),
    await checkProgram('ip', 'iproute2', ['-V']),
    await checkProgram('nft', 'nftables', ['--version']),
    await checkDevice(device),
    checkForwarding(),
    ...checkSwitches(device),
    ...(await checkForwardPolicies()),
  ];
}

function checkTun(): HostFinding {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return { level: 'ok', subject: '/dev/net/tun', text: 'is there' };
  } catch {
    return {
      level: 'missing',
      subject: '/dev/net/tun',
      text: 'is missing, or not readable and writable by this user',
      mend: 'mkdir -p /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun',
    };
  }
}

function checkCapability(name: string, number: number): HostFinding {
  if (hasCapability(number)) return { level: 'ok', subject: name, text: 'is ours' };
  // Root without it is root in a container.
  const mend = process.geteuid?.() === 0 ? `docker run --cap-add ${name.replace('CAP_', '')}` : 'run as root';
  return { level: 'missing', subject: name, text: 'is not ours', mend };
}

async function checkProgram(program: string, packageName: string, words: string[]): Promise<HostFinding> {
  try {
    const { stdout } = await run([program, ...words]);
    return { level: 'ok', subject: program, text: stdout.trim() };
  } catch {
    return {
      level: 'missing',
      subject: program,
      text: 'is not installed',
      mend: `apt-get install ${packageName}`,
    };
  }
}

/** A kernel tunnel of the device's name cannot be taken over: its packets never reach a TUN. */
async function checkDevice(device: string): Promise<HostFinding> {
  const shown = await run(['ip', '-details', '-json', 'address', 'show', 'dev', device]).catch(
    () => undefined,
  );
  const link = shown?.status === 0 ? parseLinks(shown.stdout).links[0] : undefined;
  if (!link) return { level: 'ok', subject: device, text: 'is free for the agent to make' };
  if (link.kind === 'tun') return { level: 'ok', subject: device, text: 'is a TUN device' };
  return {
    level: 'missing',
    subject: device,
    text: `is taken by a device of kind ${link.kind || 'hardware'}`,
    mend:
      link.kind === 'ipip'
        ? `ip link set ${device} down && ip link set ${device} name ${device.slice(0, 11)}-old (or: rmmod ipip), or use --device`
        : 'use --device with another name',
  };
}

function checkForwarding(): HostFinding {
  return readSysctl('net/ipv4/ip_forward') === '1'
    ? { level: 'ok', subject: 'ip_forward', text: 'is on' }
    : { level: 'ok', subject: 'ip_forward', text: 'is off; the agent turns it on' };
}

function checkSwitches(device: string): HostFinding[] {
  const findings: HostFinding[] = [];
  if (readSysctl('net/ipv4/conf/all/rp_filter') === '1')
    findings.push({
      level: 'warn',
      subject: 'rp_filter',
      text: 'net.ipv4.conf.all.rp_filter is 1 (strict); the agent sets 2 on its device and on the underlay',
    });
  for (const scope of ['all', 'default', device])
    if (readSysctl(`net/ipv4/conf/${scope}/ignore_routes_with_linkdown`) === '1')
      findings.push({
        level: 'warn',
        subject: 'ignore_routes_with_linkdown',
        text: `is 1 for ${scope}: while no agent runs, packets for other nodes would leave unencapsulated by the default route`,
        mend: `sysctl -w net.ipv4.conf.${scope}.ignore_routes_with_linkdown=0`,
      });
  return findings;
}

interface NftChain {
  readonly chain?: { family: string; table: string; name: string; hook?: string; policy?: string };
}

/** Docker and others set FORWARD to drop: workloads' packets die there. */
async function checkForwardPolicies(): Promise<HostFinding[]> {
  const listed = await run(['nft', '-j', 'list', 'chains']).catch(() => undefined);
  if (listed?.status !== 0) return [];
  const { nftables } = JSON.parse(listed.stdout) as { nftables: readonly NftChain[] };
  return nftables.flatMap(({ chain }): HostFinding[] =>
    chain?.hook === 'forward' && chain.policy === 'drop' && ['ip', 'inet'].includes(chain.family)
      ? [
          {
            level: 'warn',
            subject: 'forward policy',
            text: `${chain.family} ${chain.table} ${chain.name} drops what no rule accepts: packets of workloads may die there`,
            mend:
              chain.table === 'filter'
                ? 'iptables -I FORWARD -i cali+ -j ACCEPT && iptables -I FORWARD -o cali+ -j ACCEPT'
                : `accept iifname "cali*" and oifname "cali*" in ${chain.family} ${chain.table} ${chain.name}`,
          },
        ]
      : [],
  );
}
