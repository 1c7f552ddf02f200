/**
 * From sightings to a verdict per flow: what its requests looked like where they left their node, whether
 * they arrived unchanged, and whether answers came back. Pure; nothing but captured packets counts.
 */
import type { Ipv4 } from '../ip/ipv4.ts';
import type { Form } from './expected.ts';
import type { Sighting } from './sighting.ts';

/** Where a packet socket listened: at a node's port in the fabric, at a workload's or the internet host's eth0. */
export type Place =
  | { readonly type: 'fabric-port'; readonly node: string }
  | { readonly type: 'host'; readonly host: string };

export interface Seen {
  readonly sighting: Sighting;
  readonly place: Place;
  /** Into the fabric from a node, or into a host: what somebody sent to the place. */
  readonly incoming: boolean;
  readonly timestampNs: bigint;
  readonly frame: Uint8Array;
}

/** One sender and one receiver; the probes of a round between them. */
export interface Flow {
  readonly id: number;
  readonly from: string;
  readonly fromNode: string;
  readonly to: string;
  readonly source: Ipv4;
  readonly destination: Ipv4;
}

export interface ObservedFlow {
  /** One per probe sent, in order. */
  readonly forms: readonly Form[];
  readonly transport: 'ipip' | 'udp' | null;
  readonly received: number;
  /** Mean of those that were answered. */
  readonly rttMs: number | null;
  /** The source that arrived requests had at the receiver. */
  readonly arrivedFrom: Ipv4 | null;
  /** The first request as the fabric had it. */
  readonly sample: Seen | null;
}

export function observeFlow(flow: Flow, probes: number, seen: readonly Seen[]): ObservedFlow {
  const ofFlow = seen.filter(({ sighting }) => sighting.token.flow === flow.id);
  const observed = Array.from({ length: probes }, (_, sequence) =>
    observeProbe(
      flow,
      ofFlow.filter(({ sighting }) => sighting.token.sequence === sequence),
    ),
  );
  const rtts = observed.flatMap(({ rttMs }) => rttMs ?? []);
  const last = observed.at(-1);
  return {
    forms: observed.map(({ form }) => form),
    transport: last && last.form !== 'dropped' ? last.transport : null,
    received: rtts.length,
    rttMs: rtts.length ? rtts.reduce((sum, rtt) => sum + rtt, 0) / rtts.length : null,
    arrivedFrom: observed.find(({ arrivedFrom }) => arrivedFrom !== null)?.arrivedFrom ?? null,
    sample: observed.find(({ crossing }) => crossing)?.crossing ?? null,
  };
}

interface ObservedProbe {
  readonly form: Form;
  readonly transport: 'ipip' | 'udp' | null;
  readonly rttMs: number | null;
  readonly arrivedFrom: Ipv4 | null;
  readonly crossing: Seen | undefined;
}

function observeProbe(flow: Flow, seen: readonly Seen[]): ObservedProbe {
  const requests = seen.filter(({ sighting }) => sighting.kind === 'request');
  const crossing = requests.find(
    ({ place, incoming }) => incoming && place.type === 'fabric-port' && place.node === flow.fromNode,
  );
  const arrived = requests.find((s) => s.incoming && isHost(s.place, flow.to));
  const sent = requests.find((s) => !s.incoming && isHost(s.place, flow.from));
  const reply = seen.find(
    (s) =>
      s.sighting.kind === 'reply' && s.incoming && isHost(s.place, flow.from) && answers(s.sighting, flow),
  );
  const wrapping = crossing?.sighting.wrapping;
  return {
    form: formOf(wrapping, arrived !== undefined && isUnchanged(arrived.sighting, flow)),
    transport: wrapping === 'ipip' || wrapping === 'udp' ? wrapping : null,
    rttMs: sent && reply ? Number(reply.timestampNs - sent.timestampNs) / 1e6 : null,
    arrivedFrom: arrived?.sighting.source ?? null,
    crossing,
  };
}

function formOf(wrapping: Sighting['wrapping'] | undefined, arrived: boolean): Form {
  if (!arrived) return 'dropped';
  if (wrapping === undefined) return 'local';
  return wrapping === 'none' ? 'direct' : 'encapsulated';
}

/** A request that was translated on its way is not the one that was sent. */
function isUnchanged(sighting: Sighting, flow: Flow): boolean {
  return sighting.source === flow.source && sighting.destination === flow.destination;
}

function answers(sighting: Sighting, flow: Flow): boolean {
  return sighting.source === flow.destination && sighting.destination === flow.source;
}

function isHost(place: Place, host: string): boolean {
  return place.type === 'host' && place.host === host;
}
