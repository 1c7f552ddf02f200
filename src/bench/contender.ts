/** What is measured: the underlay itself, Tortie in its ways, the kernel's own tunnel, and other userspace tunnels. */
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { BARE, NO_OFFLOADS, VXLAN } from './goals.ts';
import type { Figure } from './measure.ts';
import { type Background, HOSTS, type Host, OVERLAY, other, type TwoHosts, UNDERLAY } from './two-hosts.ts';

/**
 * `plain`: a userspace tunnel that moves one packet per call; `batching`: one with segmentation offload; `twin`: our own
 * system calls from C, which is no tunnel to be compared with but what there is to reach.
 */
export type Kind = 'underlay' | 'kernel' | 'tortie' | 'plain' | 'batching' | 'twin';

export interface Contender {
  readonly name: string;
  readonly kind: Kind;
  /** How it was set up, for the page. */
  readonly settings: string;
  readonly figures: readonly Figure[];
  /** Sets it up on both hosts; the address of b that a talks to. Ends with a ping that was answered. */
  start(hosts: TwoHosts): Promise<string>;
  /** Takes away what it left on the host beside its processes and namespaces. */
  remove?(): void | Promise<void>;
}

const ANSWER_MS = 15_000;
const POLL_MS = 100;

/** The tunnel's device, where it is the bench that names it. */
export const DEVICE = 'bench0';
/** Userspace tunnels' queues, for all the same: the kernel's 500 overflows with a burst of small packets. */
export const TRANSMIT_QUEUE = 2000;

const PEER_FIGURES: readonly Figure[] = ['tcp-1500', 'udp-64', 'ping', 'flood'];
export const TUNNEL_FIGURES = PEER_FIGURES;

/** Waits until b answers; what runs there may say why it does not. */
export async function answered(
  hosts: TwoHosts,
  target: string,
  running: readonly Background[] = [],
): Promise<string> {
  const ping = async () => {
    const dead = running.find((one) => one.process.exitCode !== null);
    if (dead) throw new FailedError('ERR_BENCH', `it ended: ${dead.log().trim().slice(-600)}`);
    return hosts.run('a', ['ping', '-c', '1', '-W', '1', target]).then(
      () => true,
      () => undefined,
    );
  };
  if (await poll(systemClock, ANSWER_MS, POLL_MS, ping)) return target;
  const logs = running.map((one) => one.log().trim().slice(-600)).join('\n');
  throw new FailedError('ERR_BENCH', `${target} does not answer within ${ANSWER_MS} ms\n${logs}`);
}

/** Waits for the device that a program makes, and gives it its address. */
export async function configureDevice(
  hosts: TwoHosts,
  deviceOf: (host: Host) => string,
  mtu: number,
  running: readonly Background[],
): Promise<void> {
  for (const host of HOSTS) {
    const device = deviceOf(host);
    const there = () =>
      hosts.ip(host, `link show ${device}`).then(
        () => true,
        () => undefined,
      );
    if (!(await poll(systemClock, ANSWER_MS, POLL_MS, there)))
      throw new FailedError(
        'ERR_BENCH',
        `no ${device} on ${host}: ${running.map((one) => one.log().trim().slice(-600)).join('\n')}`,
      );
    await hosts.ip(
      host,
      `addr replace ${OVERLAY[host]} peer ${OVERLAY[other(host)]} dev ${device}`,
      `link set ${device} mtu ${mtu} txqueuelen ${TRANSMIT_QUEUE} up`,
    );
  }
}

/** The fabric itself, with the defaults of veth: superpackets of 64 KB from end to end. */
export const underlay: Contender = {
  name: BARE,
  kind: 'underlay',
  settings: 'no tunnel; offloads as veth has them (64 KB superpackets from end to end)',
  figures: PEER_FIGURES,
  start: (hosts) => answered(hosts, UNDERLAY.b),
};

/** What packets of the MTU cost the kernel: no tunnel that sends real packets can be faster. */
export const underlayWithoutOffloads: Contender = {
  name: NO_OFFLOADS,
  kind: 'underlay',
  settings: 'no tunnel; `ethtool -K … tso off gso off gro off` on all four ends',
  figures: ['tcp-1500', 'tcp-9001'],
  async start(hosts) {
    await hosts.withoutOffloads();
    return answered(hosts, UNDERLAY.b);
  },
};

const VXLAN_OVERHEAD_BYTES = 50;

export const kernelVxlan: Contender = {
  name: VXLAN,
  kind: 'kernel',
  settings: 'one remote, no learning; MTU 50 below the underlay’s',
  figures: PEER_FIGURES,
  async start(hosts) {
    for (const host of HOSTS) {
      const ends = `remote ${UNDERLAY[other(host)]} local ${UNDERLAY[host]}`;
      await hosts.ip(
        host,
        `link add ${DEVICE} mtu ${hosts.mtu - VXLAN_OVERHEAD_BYTES} type vxlan id 42 ${ends} dstport 4789 nolearning`,
        `addr add ${OVERLAY[host]}/24 dev ${DEVICE}`,
        `link set ${DEVICE} up`,
      );
    }
    return answered(hosts, OVERLAY.b);
  },
};
