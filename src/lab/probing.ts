/**
 * The hands of `verify`: packet sockets at the fabric's ends of the nodes' links and at every host's eth0,
 * raw ICMP sockets inside the workloads. A round sends all flows' probes at once and reads what was seen
 * until everything expected has come back, or time is up.
 */
import type { Clock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { type Capture, openCapture } from '../io/capture.ts';
import { openProbe, type Probe } from '../io/probe.ts';
import { HOST_INTERFACE } from './host-plan.ts';
import type { Flow, Place, Seen } from './observed.ts';
import type { LabPlaces, PortPlace } from './places.ts';
import { readFrame, tokenPayload } from './sighting.ts';
import { INTERNET, type Topology } from './topology.ts';

/** How often the sockets are read; the captures carry the kernel's own timestamps. */
const READ_INTERVAL_MS = 4;

export interface Instruments {
  readonly captures: readonly { readonly place: Place; readonly capture: Capture }[];
  /** By workload; one that has no namespace cannot send. */
  readonly probes: ReadonlyMap<string, Probe>;
  close(): void;
}

export function openInstruments(topology: Topology, places: LabPlaces): Instruments {
  const listening: { place: Place; at: PortPlace }[] = [
    ...topology.nodes.map(({ name }) => ({
      place: { type: 'fabric-port', node: name } as const,
      at: places.port(name),
    })),
    ...[...topology.workloads.map(({ name }) => name), INTERNET].map((host) => ({
      place: { type: 'host', host } as const,
      at: { netnsPath: places.namespace(host), interface: HOST_INTERFACE },
    })),
  ];
  const captures = listening.flatMap(({ place, at }) => {
    const capture = present(() => openCapture(at));
    return capture ? [{ place, capture }] : [];
  });
  const probes = new Map<string, Probe>();
  for (const { name } of topology.workloads) {
    const probe = present(() => openProbe({ netnsPath: places.namespace(name) }));
    if (probe) probes.set(name, probe);
  }
  return {
    captures,
    probes,
    close: () => {
      for (const { capture } of captures) capture.close();
      for (const probe of probes.values()) probe.close();
    },
  };
}

/** A namespace or link that is missing shows nothing, and that is the finding. */
function present<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch (error) {
    if (error instanceof FailedError && ['ERR_NO_NAMESPACE', 'ERR_NO_INTERFACE'].includes(error.code))
      return undefined;
    throw error;
  }
}

export interface Round {
  readonly id: number;
  readonly flows: readonly Flow[];
  readonly probesPerFlow: number;
  /** Ends the round early: everything that can be hoped for was seen. */
  readonly complete: (seen: readonly Seen[]) => boolean;
  readonly deadlineMs: number;
}

export async function runRound(instruments: Instruments, round: Round, clock: Clock): Promise<Seen[]> {
  collect(instruments, round.id); // what earlier rounds left
  for (let sequence = 0; sequence < round.probesPerFlow; sequence++)
    for (const flow of round.flows) {
      const payload = tokenPayload({ round: round.id, flow: flow.id, sequence });
      instruments.probes.get(flow.from)?.sendEcho(flow.destination, round.id & 0xffff, sequence, payload);
    }
  const seen: Seen[] = [];
  const end = clock.monotonicMs() + round.deadlineMs;
  do {
    await clock.sleep(READ_INTERVAL_MS);
    seen.push(...collect(instruments, round.id));
  } while (!round.complete(seen) && clock.monotonicMs() < end);
  // A capture read before its request passed and another read after the answer came: the rest is there by now.
  seen.push(...collect(instruments, round.id));
  return seen;
}

function collect({ captures, probes }: Instruments, round: number): Seen[] {
  // The raw sockets get every answer too; nobody reads it there, so that the captures alone decide.
  for (const probe of probes.values()) probe.read();
  return captures.flatMap(({ place, capture }) =>
    capture.read().flatMap((frame) =>
      readFrame(frame.bytes).flatMap((sighting) =>
        sighting.token.round === round
          ? {
              sighting,
              place,
              incoming: !frame.outgoing,
              timestampNs: frame.timestampNs,
              frame: frame.bytes,
            }
          : [],
      ),
    ),
  );
}
