/**
 * Frames of our own by a packet socket: past the kernel's route lookup, IP output and netfilter, which is what they
 * are for and why they may be used only where nothing there has a say (agent/frame-ways.ts). The queueing
 * discipline of the device is kept to.
 */
import type { PieceBatch } from '../dataplane/ports.ts';
import type { Arena } from './arena.ts';
import { systemCalls } from './libc.ts';
import {
  AF_PACKET,
  openSocket,
  PACKET_VNET_HDR,
  SOCK_RAW,
  SOL_PACKET,
  setBufferSizes,
  setIntegerOption,
} from './socket-options.ts';
import { SocketSink } from './socket-sink.ts';

const SOCKET_BUFFER_BYTES = 8 << 20;
const ETH_P_IP = 0x0800;
/** struct sockaddr_ll, in a field of a multiple of 4. */
const SOCKADDR_LL_BYTES = 20;
const SOCKADDR_LL_OFF_INTERFACE = 4;

/** Of protocol 0: it sends, and the kernel hands it nothing. Each frame has a virtio-net header before it. */
export function openFrameSender(): number {
  const fd = openSocket(AF_PACKET, SOCK_RAW, 0, 'the packet socket that sends protocol 4');
  try {
    setBufferSizes(fd, SOCKET_BUFFER_BYTES);
    setIntegerOption(fd, SOL_PACKET, PACKET_VNET_HDR, 1, 'setting PACKET_VNET_HDR');
    return fd;
  } catch (error) {
    // `auto` goes on without it.
    systemCalls().close(fd);
    throw error;
  }
}

/** Frames that leave by the interface that the batch's `destination` says. */
export class FrameSink extends SocketSink {
  constructor(fd: number, arena: Arena, batch: PieceBatch) {
    super(fd, arena, batch, SOCKADDR_LL_BYTES);
    for (let i = 0; i < batch.packetCapacity; i++) {
      arena.view.setUint16(this.table.nameOf(i), AF_PACKET, true);
      arena.view.setUint16(this.table.nameOf(i) + 2, ETH_P_IP);
    }
  }

  protected layAddresses(): void {
    const { batch, table } = this;
    for (let packet = 0; packet < batch.packetCount; packet++)
      table.words[(table.nameOf(packet) + SOCKADDR_LL_OFF_INTERFACE) >>> 2] = batch.destination(packet);
  }
}
