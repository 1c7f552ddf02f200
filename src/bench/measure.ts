/** One figure of one contender: what is run for it, for how long, and which number counts. */
import { poll, systemClock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { end, type TwoHosts } from './two-hosts.ts';

/**
 *   tcp-1500, tcp-9001   one stream of iperf3, Gbit/s received; by the underlay's MTU
 *   udp-64               datagrams of 64 bytes as fast as iperf3 sends them, thousands a second that reached the receiver
 *   ping                 average round trip of a burst of pings, one every 2 ms, in microseconds
 *   flood                the same of `ping -f`: the next leaves when the answer is there
 */
export type Figure = 'tcp-1500' | 'tcp-9001' | 'udp-64' | 'ping' | 'flood';
export const FIGURES: readonly Figure[] = ['tcp-1500', 'tcp-9001', 'udp-64', 'ping', 'flood'];

/** Smaller is better. */
export const isLatency = (figure: Figure) => figure === 'ping' || figure === 'flood';

export interface Durations {
  readonly tcpSeconds: number;
  readonly udpSeconds: number;
  readonly floodSeconds: number;
  /** Round trips of a burst. */
  readonly pings: number;
}

export interface Outcome {
  readonly value: number;
  readonly retransmits?: number;
}

/** iperf3 waits for its peer, and a tunnel that passes nothing lets it wait for minutes. */
const GRACE_MS = 8_000;
const LISTEN_MS = 5_000;
const PING_INTERVAL_SECONDS = 0.002;
/** After which those of a burst that have no answer are given up. */
const PING_SECONDS = 5;

/** From host a to `target`, an address of host b. */
export function measure(hosts: TwoHosts, target: string, figure: Figure, times: Durations): Promise<Outcome> {
  switch (figure) {
    case 'tcp-1500':
    case 'tcp-9001':
      return tcp(hosts, target, times.tcpSeconds);
    case 'udp-64':
      return udp(hosts, target, times.udpSeconds);
    case 'ping':
      return ping(hosts, target, PING_SECONDS, [
        '-c',
        String(times.pings),
        '-i',
        String(PING_INTERVAL_SECONDS),
      ]);
    case 'flood':
      return ping(hosts, target, times.floodSeconds, ['-f']);
  }
}

interface IperfReport {
  readonly end: {
    readonly sum_sent?: { readonly retransmits?: number };
    readonly sum_received?: {
      readonly bits_per_second: number;
      readonly packets?: number;
      readonly lost_packets?: number;
      readonly seconds: number;
    };
  };
  readonly error?: string;
}

/** A server for one test, and the client's report. */
async function iperf(
  hosts: TwoHosts,
  target: string,
  seconds: number,
  flags: readonly string[],
): Promise<IperfReport['end']> {
  const server = hosts.start('b', ['iperf3', '--server', '--one-off', '--forceflush']);
  try {
    const listens = async () => (/listening/.test(server.log()) ? true : undefined);
    if (!(await poll(systemClock, LISTEN_MS, 10, listens)))
      throw new FailedError('ERR_BENCH', `iperf3 does not listen: ${server.log()}`);
    const client = ['iperf3', '--client', target, '--time', String(seconds), '--json', ...flags];
    const text = await hosts.run('a', [...client, '--connect-timeout', '2000'], seconds * 1000 + GRACE_MS);
    const report = JSON.parse(text) as IperfReport;
    if (report.error) throw new FailedError('ERR_BENCH', `iperf3: ${report.error}`);
    return report.end;
  } finally {
    await end(server.process);
  }
}

async function tcp(hosts: TwoHosts, target: string, seconds: number): Promise<Outcome> {
  const { sum_received: received, sum_sent: sent } = await iperf(hosts, target, seconds, []);
  if (!received) throw new FailedError('ERR_BENCH', 'iperf3 reports nothing received');
  return { value: received.bits_per_second / 1e9, retransmits: sent?.retransmits ?? 0 };
}

async function udp(hosts: TwoHosts, target: string, seconds: number): Promise<Outcome> {
  const { sum_received: received } = await iperf(hosts, target, seconds, ['-u', '-l', '64', '-b', '0']);
  if (received?.packets === undefined || received.lost_packets === undefined)
    throw new FailedError('ERR_BENCH', 'iperf3 reports no datagrams');
  return { value: (received.packets - received.lost_packets) / received.seconds / 1000 };
}

async function ping(
  hosts: TwoHosts,
  target: string,
  seconds: number,
  flags: readonly string[],
): Promise<Outcome> {
  const words = ['ping', '-q', '-n', '-w', String(seconds), ...flags, target];
  const text = await hosts.run('a', words, seconds * 1000 + GRACE_MS);
  const average = /= [\d.]+\/([\d.]+)\//.exec(text)?.[1];
  if (average === undefined) throw new FailedError('ERR_BENCH', `ping has no answer: ${text.trim()}`);
  return { value: Number(average) * 1000 };
}
