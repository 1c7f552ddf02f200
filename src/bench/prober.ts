/** What the benches of scale look at: when a packet leaves encapsulated to the right node, and how large a process is. */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import { openCapture } from '../io/capture.ts';
import { formatIpv4, type Ipv4 } from '../ip/ipv4.ts';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.ts';
import { IPV4_MIN_HEADER_BYTES, ipv4Destination, ipv4Protocol, PROTOCOL_IPIP } from '../wire/ipv4.ts';

const PROBE_PORT = 9;
const PROBE_MS = 1;
const DEADLINE_MS = 60_000;

/** Tells when a packet to `inner` leaves encapsulated to `outer`. */
export class Prober {
  readonly #socket = createSocket('udp4');
  readonly #capture = openCapture({ interface: 'eth1' });

  async untilEncapsulated(inner: Ipv4, outer: Ipv4, clock: Clock): Promise<number> {
    const deadline = clock.monotonicMs() + DEADLINE_MS;
    // What the agent before this one still sent.
    this.#capture.read();
    while (clock.monotonicMs() < deadline) {
      this.#socket.send('?', PROBE_PORT, formatIpv4(inner), () => {});
      await clock.sleep(PROBE_MS);
      if (this.#capture.read().some(({ bytes }) => isFrameOf(bytes, inner, outer)))
        return clock.monotonicMs();
    }
    throw new FailedError(
      'ERR_BENCH',
      `nothing left encapsulated for ${formatIpv4(inner)} within ${DEADLINE_MS} ms`,
    );
  }

  close(): void {
    this.#socket.close();
    this.#capture.close();
  }
}

function isFrameOf(frame: Uint8Array, inner: Ipv4, outer: Ipv4): boolean {
  const at = ETHERNET_HEADER_BYTES;
  if (frame.length < at + 2 * IPV4_MIN_HEADER_BYTES || ipv4Protocol(frame, at) !== PROTOCOL_IPIP)
    return false;
  return ipv4Destination(frame, at) === outer && ipv4Destination(frame, at + IPV4_MIN_HEADER_BYTES) === inner;
}

export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
