/**
 * What passes an interface, with the kernel's timestamps: a packet socket on one link, read without blocking.
 * With offloads on, a capture shows superpackets and checksums not filled in yet, as tcpdump does.
 */
import { systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { inNetworkNamespace, interfaceIndex } from './netns.ts';
import {
  AF_PACKET,
  ETH_P_ALL,
  openSocket,
  SO_TIMESTAMPNS,
  SOCK_RAW,
  SOL_SOCKET,
  setBufferSizes,
  setIntegerOption,
} from './socket-options.ts';

const CAPTURE_BUFFER_BYTES = 8 << 20;
const SOCKADDR_LL_BYTES = 20;
const SOCKADDR_LL_OFF_PKTTYPE = 10;
const PACKET_OUTGOING = 4;

export interface CapturedFrame {
  /** Nanoseconds since the epoch. */
  readonly timestampNs: bigint;
  /** The frame from its link-layer header on. */
  readonly bytes: Uint8Array;
  /** Sent by this host through the interface, as opposed to received from it. */
  readonly outgoing: boolean;
}

export interface Capture {
  readonly fd: number;
  /** Everything that arrived since the last call. */
  read(): CapturedFrame[];
  close(): void;
}

/** Starts capturing on `interface`, in the network namespace at `netnsPath` or in our own. */
export function openCapture(options: { netnsPath?: string; interface: string }): Capture {
  const open = () => openPacketSocket(options.interface);
  const fd = options.netnsPath === undefined ? open() : inNetworkNamespace(options.netnsPath, open);
  const buffer = new MessageBuffer();
  return {
    fd,
    read: () => readFrames(fd, buffer, options.interface),
    close: () => {
      systemCalls().close(fd);
    },
  };
}

function openPacketSocket(name: string): number {
  const index = interfaceIndex(name);
  // Protocol 0 receives nothing until bind, so no frame of another interface slips in between.
  const fd = openSocket(AF_PACKET, SOCK_RAW, 0, `a packet socket on ${name}`);
  try {
    setBufferSizes(fd, CAPTURE_BUFFER_BYTES);
    setIntegerOption(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1, 'asking for timestamps');
    const address = new Uint8Array(SOCKADDR_LL_BYTES);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_ALL);
    view.setInt32(4, index, true);
    if (systemCalls().bind(fd, address, SOCKADDR_LL_BYTES) < 0)
      throw systemCallFailed(`binding a packet socket to ${name}`);
  } catch (error) {
    systemCalls().close(fd);
    throw error;
  }
  return fd;
}

function readFrames(fd: number, buffer: MessageBuffer, name: string): CapturedFrame[] {
  const frames: CapturedFrame[] = [];
  for (;;) {
    const length = buffer.receive(fd, `the capture on ${name}`);
    if (length < 0) return frames;
    frames.push({
      timestampNs: buffer.timestampNs() ?? 0n,
      bytes: buffer.arena.bytes.slice(buffer.data, buffer.data + length),
      outgoing: buffer.arena.bytes[buffer.name + SOCKADDR_LL_OFF_PKTTYPE] === PACKET_OUTGOING,
    });
  }
}
