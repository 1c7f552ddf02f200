/** What the packet threads read and write: opened before they start, closed when all have ended. */
import { systemCalls } from '../io/libc.ts';
import { openFrameSender } from '../io/packet-socket.ts';
import { openIcmpErrorReceiver, openRawGuard, openRawReceiver, openRawSender } from '../io/raw-socket.ts';
import { openTun, type Tun } from '../io/tun.ts';
import { openDatagramSocket } from '../io/udp-socket.ts';
import type { DataPlaneOptions } from './data-plane.ts';

/**
 * What outbound has of its own for each queue of the TUN. The ICMP errors come to each, since each has to know what the
 * ways take.
 */
export interface QueueDescriptors {
  readonly sender: number;
  readonly icmp: number;
  /** -1 where no frames are sent. */
  readonly frames: number;
}

export interface Descriptors {
  readonly tun: Tun;
  /** In the order of `tun.queues`. */
  readonly queues: readonly QueueDescriptors[];
  /** -1 where protocol 4 is not taken: the kernel then answers it with "protocol unreachable". */
  readonly receiver: number;
  /**
   * -1 where the `udp` transport is off. One for all queues: a second one of the same port would be given datagrams, too.
   */
  readonly datagrams: number;
  close(): void;
}

/** All or nothing: what was opened before a failure is closed again. */
export function openDescriptors(options: DataPlaneOptions): Descriptors {
  const { device, transport, udpPort, queues = 1 } = options;
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  const close = () => {
    for (const fd of opened) systemCalls().close(fd);
  };
  try {
    const first = { sender: keep(openRawSender()), icmp: keep(openIcmpErrorReceiver()) };
    // Keeps that answer away while the receiver's buffer is full.
    if (transport !== 'udp') keep(openRawGuard());
    const receiver = transport === 'udp' ? -1 : keep(openRawReceiver());
    const datagrams = transport === 'ipip' ? -1 : keep(openDatagramSocket(udpPort));
    const frames = openFrames(options, keep);
    const further = Array.from({ length: queues - 1 }, () => ({
      sender: keep(openRawSender()),
      icmp: keep(openIcmpErrorReceiver()),
      frames: frames < 0 ? -1 : keep(openFrameSender()),
    }));
    // Last: attaching gives the device its carrier, which is to tell the truth.
    const tun = openTun(device, 'tcp+udp', queues);
    for (const fd of new Set([...tun.queues, tun.writer])) keep(fd);
    return { tun, queues: [{ ...first, frames }, ...further], receiver, datagrams, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** -1 where none are wanted, or where `auto` cannot have them, as under a service manager that forbids AF_PACKET. */
function openFrames({ sender = 'raw', logger }: DataPlaneOptions, keep: (fd: number) => number): number {
  if (sender === 'raw') return -1;
  try {
    return keep(openFrameSender());
  } catch (error) {
    if (sender === 'packet') throw error;
    logger.warn({}, `outer packets go by raw sockets: ${(error as Error).message}`);
    return -1;
  }
}
