/** What is aimed at, as ratios within one run: what the machine can do and how busy it is falls out of them. */
import type { Figure } from './measure.ts';
import { type Measurement, median, type Results } from './results.ts';

/** Names of contenders that goals speak of. */
export const IPIP = 'tortie ipip';
export const UDP = 'tortie udp';
export const FAST_PATH = 'tortie fast path';
/** Where clang is there. */
export const CLANG_TWIN = 'fast path by clang';
/** The userspace path's system calls from C, where clang is there. */
export const IPIP_IN_C = 'ipip in C';
export const UDP_IN_C = 'udp in C';
/** The bare network, and the kernel's own tunnel. */
export const BARE = 'underlay';
export const NO_OFFLOADS = 'underlay, no offloads';
export const VXLAN = 'kernel VXLAN';
/** Where its path is given: `--peer nebula=DIRECTORY`. */
const NEBULA = 'nebula';

type Against = (one: Measurement) => boolean;
const named =
  (name: string): Against =>
  ({ contender }) =>
    contender === name;
const plainPeers: Against = ({ kind }) => kind === 'plain';
const batchingPeers: Against = ({ kind }) => kind === 'batching';
const allPeers: Against = (one) => plainPeers(one) || batchingPeers(one);

interface Goal {
  readonly title: string;
  readonly figure: Figure;
  readonly ours: string;
  readonly against: Against;
  /** At least so much, for figures that are to be small at most. */
  readonly first: number;
  readonly second: number;
  /** Whose ratio to the same stands beside ours, to show how much there is to reach. */
  readonly kernel: string | undefined;
}

const goal = (
  title: string,
  figure: Figure,
  ours: string,
  against: Against,
  first: number,
  second: number,
  kernel?: string,
): Goal => ({ title, figure, ours, against, first, second, kernel });

const GOALS: readonly Goal[] = [
  goal('TCP, MTU 1500, to the underlay without offloads', 'tcp-1500', IPIP, named(NO_OFFLOADS), 0.45, 0.75),
  goal('… to the best plain peer', 'tcp-1500', IPIP, plainPeers, 2.5, 5, NO_OFFLOADS),
  goal('… to nebula', 'tcp-1500', IPIP, named(NEBULA), 0.6, 1.1, NO_OFFLOADS),
  goal('TCP, MTU 9001, to the underlay without offloads', 'tcp-9001', IPIP, named(NO_OFFLOADS), 0.45, 0.75),
  goal('TCP by `udp`, MTU 1500, to kernel VXLAN', 'tcp-1500', UDP, named(VXLAN), 0.4, 0.6),
  goal('… to the best plain peer', 'tcp-1500', UDP, plainPeers, 8, 15, VXLAN),
  goal('… to nebula', 'tcp-1500', UDP, named(NEBULA), 2, 3.5, VXLAN),
  goal('UDP 64 B, to the best plain peer', 'udp-64', IPIP, plainPeers, 1.3, 3, VXLAN),
  goal('… to nebula', 'udp-64', IPIP, named(NEBULA), 0.8, 1.5, VXLAN),
  goal('UDP 64 B by `udp`, to the best plain peer', 'udp-64', UDP, plainPeers, 1.3, 3, VXLAN),
  goal('round trip, to the best peer', 'ping', IPIP, allPeers, 1.3, 0.6, VXLAN),
  goal('fast path: TCP, MTU 1500, to the underlay', 'tcp-1500', FAST_PATH, named(BARE), 0.6, 0.9),
  goal('… to the same programs compiled by clang', 'tcp-1500', FAST_PATH, named(CLANG_TWIN), 0.9, 1),
  goal('… to the best batching peer', 'tcp-1500', FAST_PATH, batchingPeers, 3, 4, BARE),
  goal('fast path: UDP 64 B, to the underlay', 'udp-64', FAST_PATH, named(BARE), 0.75, 0.95),
  goal('… to the same programs compiled by clang', 'udp-64', FAST_PATH, named(CLANG_TWIN), 0.9, 1),
  goal('fast path: flood ping, to the underlay', 'flood', FAST_PATH, named(BARE), 1.5, 1.2),
  goal('… to the same programs compiled by clang', 'flood', FAST_PATH, named(CLANG_TWIN), 1.1, 1),
];

/** Median, least and greatest of the rounds' ratios. */
export interface Spread {
  readonly title: string;
  readonly ratio: number;
  readonly least: number;
  readonly greatest: number;
}

export interface Judged extends Spread {
  readonly first: string;
  readonly second: string;
  readonly reached: 'second' | 'first' | 'none';
  /** The kernel's ratio to the same, and of what; null where it was not measured, or is what is compared with. */
  readonly kernel: { readonly name: string; readonly ratio: number } | null;
}

/** Every goal for which there are measurements. */
export function judge(results: Results): readonly Judged[] {
  return GOALS.flatMap(({ title, figure, ours, against, first, second, kernel }) => {
    const ratios = results.ratios(ours, against, figure);
    if (ratios.length === 0) return [];
    const spread = spreadOf(ratios);
    const { ratio } = spread;
    const kernels = kernel === undefined ? [] : results.ratios(kernel, against, figure);
    // A smaller second column: what is to be small.
    const small = second < first;
    const reaches = (limit: number) => (small ? ratio <= limit : ratio >= limit);
    const sign = small ? '≤' : '≥';
    return {
      title,
      first: `${sign} ${first}`,
      second: `${sign} ${second}`,
      ...spread,
      kernel: kernel !== undefined && kernels.length > 0 ? { name: kernel, ratio: median(kernels) } : null,
      reached: reaches(second) ? 'second' : reaches(first) ? 'first' : 'none',
    };
  });
}

const TWINS: readonly (readonly [title: string, figure: Figure, ours: string, twin: string])[] = [
  ['TCP, MTU 1500', 'tcp-1500', IPIP, IPIP_IN_C],
  ['TCP, MTU 9001', 'tcp-9001', IPIP, IPIP_IN_C],
  ['TCP by `udp`, MTU 1500', 'tcp-1500', UDP, UDP_IN_C],
  ['TCP by `udp`, MTU 9001', 'tcp-9001', UDP, UDP_IN_C],
  ['UDP 64 B', 'udp-64', IPIP, IPIP_IN_C],
  ['UDP 64 B by `udp`', 'udp-64', UDP, UDP_IN_C],
  ['round trip', 'ping', IPIP, IPIP_IN_C],
  ['flood ping', 'flood', IPIP, IPIP_IN_C],
];

/** Ours to the same system calls from C, for what was measured of both. */
export function besideTwins(results: Results): readonly Spread[] {
  return TWINS.flatMap(([title, figure, ours, twin]) => {
    const ratios = results.ratios(ours, named(twin), figure);
    return ratios.length === 0 ? [] : [{ title, ...spreadOf(ratios) }];
  });
}

function spreadOf(ratios: readonly number[]): Omit<Spread, 'title'> {
  return { ratio: median(ratios), least: Math.min(...ratios), greatest: Math.max(...ratios) };
}
