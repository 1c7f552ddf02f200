/**
 * `lab verify`: real packets between every ordered pair of workloads, and out to the internet, compared with
 * what the resources and the fabric demand. Polls, because a change takes a moment to be in force: the
 * demand is read anew before each round, and the last round is what is reported.
 */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { parseInterfaceAddress, parsePrefix } from '../ip/prefix.ts';
import { kindPrefix } from '../model/keys.ts';
import type { Kind } from '../model/resources.ts';
import { decodeStored } from '../model/stored.ts';
import type { Datastore } from '../store/datastore.ts';
import {
  addressText,
  bareAddress,
  type ExpectedNat,
  type ExpectedPair,
  expectedNat,
  expectedPairs,
  type Form,
  type ResourceFacts,
} from './expected.ts';
import { type Flow, type ObservedFlow, observeFlow, type Seen } from './observed.ts';
import { type LabPlaces, labPlaces } from './places.ts';
import { type Instruments, openInstruments, runRound } from './probing.ts';
import { INTERNET, INTERNET_HOST, type Topology } from './topology.ts';
import { workloadAddresses } from './workloads.ts';

/** The whole of verify gives up after this, as DESIGN has it. */
export const VERIFY_DEADLINE_MS = 5_000;
const PROBES_PER_FLOW = 3;
/** A round without everything it hopes for ends here; a drop is believed after the quiet time. */
const ROUND_DEADLINE_MS = 1_000;
const QUIET_MS = 250;
const BETWEEN_ROUNDS_MS = 50;

/** The JSON of `lab verify --json`, field by field. */
export interface VerifyPair {
  readonly from: string;
  readonly to: string;
  readonly fromAddress: string | null;
  readonly toAddress: string | null;
  readonly fromNode: string;
  readonly toNode: string;
  /** Whether the fabric has both nodes in one subnet. */
  readonly sameSubnet: boolean;
  readonly pool: string | null;
  readonly mode: string | null;
  readonly expected: Form;
  readonly observed: Form;
  readonly transport: 'ipip' | 'udp' | null;
  readonly reachable: boolean;
  readonly sent: number;
  readonly received: number;
  readonly rttMs: number | null;
}

export interface VerifyNat {
  readonly from: string;
  readonly to: 'internet';
  readonly reachable: boolean;
  readonly expectedSource: string | null;
  readonly observedSource: string | null;
}

export interface VerifyResult {
  readonly ok: boolean;
  readonly lab: string;
  readonly pairs: readonly VerifyPair[];
  readonly nat: readonly VerifyNat[];
}

/** A captured request of each kind that was seen: what `lab demo` shows. */
export interface Sample {
  readonly form: Form;
  readonly from: string;
  readonly to: string;
  readonly seen: Seen;
}

export interface Verification {
  readonly result: VerifyResult;
  readonly samples: readonly Sample[];
}

export async function verifyLab(
  topology: Topology,
  store: Datastore,
  { clock, random }: { clock: Clock; random: Random },
  places: LabPlaces = labPlaces(topology),
): Promise<Verification> {
  const instruments = openInstruments(topology, places);
  try {
    const end = clock.monotonicMs() + VERIFY_DEADLINE_MS;
    for (;;) {
      const facts = await readFacts(topology, store);
      const verification = await verifyOnce(topology, facts, instruments, { clock, random });
      if (verification.result.ok || clock.monotonicMs() >= end) return verification;
      await clock.sleep(BETWEEN_ROUNDS_MS);
    }
  } finally {
    instruments.close();
  }
}

async function readFacts(topology: Topology, store: Datastore): Promise<ResourceFacts> {
  const [pools, nodes, felix, workloads] = await Promise.all([
    list(store, 'IPPool'),
    list(store, 'Node'),
    list(store, 'FelixConfiguration'),
    workloadAddresses(topology, store),
  ]);
  return {
    pools: pools.flatMap(({ spec }) => {
      const cidr = parsePrefix(spec.cidr);
      return cidr ? [{ cidr, text: spec.cidr, ipipMode: spec.ipipMode, natOutgoing: spec.natOutgoing }] : [];
    }),
    nodes: new Map(
      nodes.map(({ metadata, spec }) => [metadata.name, parseInterfaceAddress(spec.bgp?.ipv4Address ?? '')]),
    ),
    ipipDisabled: ipipDisabledOn(
      topology,
      new Map(felix.map(({ metadata, spec }) => [metadata.name, spec.ipipEnabled])),
    ),
    workloads: new Map(
      [...workloads].flatMap(([name, text]) => {
        const address = bareAddress(text);
        return address === undefined ? [] : [[name, address] as const];
      }),
    ),
  };
}

/** A node's own FelixConfiguration goes before the default one. */
function ipipDisabledOn(topology: Topology, enabled: ReadonlyMap<string, boolean | undefined>): Set<string> {
  const names = topology.nodes.map(({ name }) => name);
  return new Set(names.filter((name) => (enabled.get(`node.${name}`) ?? enabled.get('default')) === false));
}

/** What can be read of a kind; a bad object is the agents' to report. */
async function list<K extends Kind>(store: Datastore, kind: K) {
  const { entries } = await store.list(kindPrefix(kind));
  return entries.flatMap(({ value }) => {
    const decoded = decodeStored(kind, value);
    return decoded.ok ? [decoded.resource] : [];
  });
}

async function verifyOnce(
  topology: Topology,
  facts: ResourceFacts,
  instruments: Instruments,
  { clock, random }: { clock: Clock; random: Random },
): Promise<Verification> {
  const pairs = expectedPairs(topology, facts).map((pair, id) => ({ pair, flow: pairFlow(pair, id) }));
  const nats = expectedNat(topology, facts).map((nat, position) => ({
    nat,
    flow: natFlow(nat, pairs.length + position),
  }));
  const flows = [...pairs, ...nats].flatMap(({ flow }) => flow ?? []);
  const answered = [...pairs.map(({ pair, flow }) => (pair.answered ? flow : undefined))].concat(
    nats.map(({ nat, flow }) => (nat.answered ? flow : undefined)),
  );
  const seen = await runRound(
    instruments,
    {
      id: random.below(2 ** 32),
      flows,
      probesPerFlow: PROBES_PER_FLOW,
      complete: completion(
        answered.flatMap((flow) => flow?.id ?? []),
        flows.length,
        clock,
      ),
      deadlineMs: ROUND_DEADLINE_MS,
    },
    clock,
  );
  const observe = (flow: Flow | null) => (flow ? observeFlow(flow, PROBES_PER_FLOW, seen) : null);
  const judgedPairs = pairs.map(({ pair, flow }) => judgePair(pair, observe(flow)));
  const judgedNats = nats.map(({ nat, flow }) => judgeNat(nat, observe(flow)));
  return {
    result: {
      ok: [...judgedPairs, ...judgedNats].every(({ agrees }) => agrees),
      lab: topology.name,
      pairs: judgedPairs.map(({ row }) => row),
      nat: judgedNats.map(({ row }) => row),
    },
    samples: judgedPairs.flatMap(({ row, sample }) =>
      sample ? [{ form: row.observed, from: row.from, to: row.to, seen: sample }] : [],
    ),
  };
}

/** A round is over when every answer that may come has come, and where some may not, after a quiet time. */
function completion(
  answeredFlows: readonly number[],
  flows: number,
  clock: Clock,
): (seen: readonly Seen[]) => boolean {
  const start = clock.monotonicMs();
  const quietUntil = answeredFlows.length === flows ? start : start + QUIET_MS;
  return (seen) => {
    if (clock.monotonicMs() < quietUntil) return false;
    const counts = new Map<number, number>();
    for (const { sighting, incoming, place } of seen) {
      const { flow } = sighting.token;
      if (sighting.kind === 'reply' && incoming && place.type === 'host')
        counts.set(flow, (counts.get(flow) ?? 0) + 1);
    }
    return answeredFlows.every((flow) => (counts.get(flow) ?? 0) >= PROBES_PER_FLOW);
  };
}

function pairFlow({ from, to, fromAddress, toAddress }: ExpectedPair, id: number): Flow | null {
  if (fromAddress === null || toAddress === null) return null;
  return {
    id,
    from: from.name,
    fromNode: from.node,
    to: to.name,
    source: fromAddress,
    destination: toAddress,
  };
}

function natFlow({ from, fromAddress }: ExpectedNat, id: number): Flow | null {
  if (fromAddress === null) return null;
  const { name, node } = from;
  return { id, from: name, fromNode: node, to: INTERNET, source: fromAddress, destination: INTERNET_HOST };
}

function judgePair(
  pair: ExpectedPair,
  observed: ObservedFlow | null,
): { row: VerifyPair; agrees: boolean; sample: Seen | null } {
  const forms = observed?.forms ?? [];
  const received = observed?.received ?? 0;
  const row: VerifyPair = {
    from: pair.from.name,
    to: pair.to.name,
    fromAddress: addressText(pair.fromAddress),
    toAddress: addressText(pair.toAddress),
    fromNode: pair.from.node,
    toNode: pair.to.node,
    sameSubnet: pair.sameSubnet,
    pool: pair.pool?.text ?? null,
    mode: pair.pool?.ipipMode ?? null,
    expected: pair.expected,
    // Where probes of one round differ, one that is not as demanded is the news.
    observed: forms.find((form) => form !== pair.expected) ?? forms[0] ?? 'dropped',
    transport: observed?.transport ?? null,
    reachable: received > 0,
    sent: forms.length,
    received,
    rttMs: observed?.rttMs == null ? null : Math.round(observed.rttMs * 1000) / 1000,
  };
  const answeredAsDemanded = received === (pair.answered ? forms.length : 0);
  return {
    row,
    // Where a workload of the lab has no address nothing could be sent, so nothing was verified.
    agrees: observed !== null && row.expected === row.observed && answeredAsDemanded,
    sample: observed?.sample ?? null,
  };
}

function judgeNat(nat: ExpectedNat, observed: ObservedFlow | null): { row: VerifyNat; agrees: boolean } {
  const row: VerifyNat = {
    from: nat.from.name,
    to: INTERNET,
    reachable: (observed?.received ?? 0) > 0,
    expectedSource: addressText(nat.source),
    observedSource: addressText(observed?.arrivedFrom ?? null),
  };
  return {
    row,
    agrees: observed !== null && row.expectedSource === row.observedSource && row.reachable === nat.answered,
  };
}
