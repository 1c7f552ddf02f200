/** `lab capture`: what passes interfaces of the lab, into one pcapng file that Wireshark and tcpdump open. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { type Capture, openCapture } from '../io/capture.ts';
import {
  type CaptureInterface,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  pcapngHeader,
  pcapngPacket,
} from '../wire/pcapng.ts';
import { HOST_INTERFACE } from './host-plan.ts';
import { requireHost } from './lab.ts';
import { namespaceName, namespacePath } from './names.ts';
import { FABRIC, type Topology } from './topology.ts';

/** The kernel's buffers hold a second of gigabits between two looks. */
const READ_INTERVAL_MS = 20;

/** One interface of one host. */
export interface CapturePlace {
  readonly host: string;
  readonly interface: string;
}

/** `w1` means its eth0, `node1:tunl0` an interface; nothing given, the fabric's ports of all nodes. */
export function capturePlaces(topology: Topology, given: readonly string[]): CapturePlace[] {
  if (given.length === 0) return topology.nodes.map(({ name }) => ({ host: FABRIC, interface: name }));
  return given.map((text) => {
    const [host = '', device, ...rest] = text.split(':');
    requireHost(topology, host);
    if (device === '' || rest.length > 0)
      throw new UsageError(`"${text}" is no place to capture at: expected HOST or HOST:INTERFACE`);
    if (device === undefined && host === FABRIC)
      throw new UsageError('the fabric has a port for each node: expected fabric:NODE');
    return { host, interface: device ?? HOST_INTERFACE };
  });
}

export interface CaptureOptions {
  readonly places: readonly CapturePlace[];
  /** A file, or `-` for stdout. */
  readonly file: string;
  /** Ends the capture after so many packets; undefined: only the signal does. */
  readonly count?: number | undefined;
  readonly signal: AbortSignal;
}

/** @returns how many packets were written */
export async function captureInLab(
  topology: Topology,
  options: CaptureOptions,
  clock: Clock,
): Promise<number> {
  const captures: Capture[] = [];
  let output: number | undefined;
  try {
    for (const place of options.places)
      captures.push(
        openCapture({
          netnsPath: namespacePath(namespaceName(topology.name, place.host)),
          interface: place.interface,
        }),
      );
    output = options.file === '-' ? 1 : openSync(options.file, 'w');
    writeAll(output, pcapngHeader(options.places.map(describe), 'tortie'));
    return await pump(captures, output, options, clock);
  } finally {
    for (const capture of captures) capture.close();
    if (output !== undefined && output !== 1) closeSync(output);
  }
}

async function pump(
  captures: readonly Capture[],
  output: number,
  { count = Number.POSITIVE_INFINITY, signal }: CaptureOptions,
  clock: Clock,
): Promise<number> {
  let written = 0;
  for (;;) {
    const last = signal.aborted;
    for (const packet of readInOrder(captures)) {
      if (written === count) break;
      writeAll(output, pcapngPacket(packet));
      written++;
    }
    if (last || written === count) return written;
    await clock.sleep(READ_INTERVAL_MS, signal).catch(() => {});
  }
}

/** What all captures got since the last look, by time. */
function readInOrder(captures: readonly Capture[]) {
  return captures
    .flatMap((capture, interfaceIndex) =>
      capture.read().map(({ timestampNs, bytes, outgoing }) => ({
        interfaceIndex,
        timestampNs,
        bytes,
        direction: outgoing ? ('outbound' as const) : ('inbound' as const),
      })),
    )
    .sort((a, b) => Number(a.timestampNs - b.timestampNs));
}

function describe({ host, interface: device }: CapturePlace): CaptureInterface {
  // A TUN device has no Ethernet header.
  return { name: `${host}:${device}`, linkType: isTunnel(device) ? LINKTYPE_RAW : LINKTYPE_ETHERNET };
}

function isTunnel(device: string): boolean {
  return device.startsWith('tun');
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
