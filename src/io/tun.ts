/**
 * The TUN device: made or adopted, persistent (routes through it survive the process, so nothing leaks out
 * unwrapped while nobody reads it), with a virtio-net header before each packet.
 * Addresses, MTU, routes, up and down are the host's business, not ours.
 *
 * A device of several queues (IFF_MULTI_QUEUE) gives each flow to one of them. The kernel wants to help by moving a
 * flow to the queue by which its other direction was last written, which would bring all flows of who writes by one
 * queue to that queue, and overtakes packets at each move. So what is written goes by a further queue that is detached
 * for reading: by such a one the kernel learns nothing, and a flow's queue is a function of its addresses and ports.
 */
import { UnavailableError } from '../base/errors.ts';
import {
  type PacketBatch,
  type PacketSink,
  type PacketSource,
  type PieceBatch,
  SEND_AGAIN,
  SEND_DOWN,
  SEND_OK,
  SEND_REFUSED,
  SLOT_BYTES,
} from '../dataplane/ports.ts';
import { VIRTIO_NET_HEADER_BYTES } from '../wire/virtio-net-header.ts';
import { Arena } from './arena.ts';
import {
  EACCES,
  EAGAIN,
  EBADFD,
  EBUSY,
  EINTR,
  EINVAL,
  EIO,
  ENODEV,
  ENOENT,
  ENXIO,
  EPERM,
  errnoName,
  systemCallFailed,
} from './errno.ts';
import { IFNAMSIZ, interfaceRequest } from './interface-request.ts';
import { systemCalls } from './libc.ts';
import { interfaceIndex } from './netns.ts';
import { AF_INET, SOCK_CLOEXEC, SOCK_DGRAM } from './socket-options.ts';

const TUN_PATH = '/dev/net/tun';
const O_RDWR_NONBLOCK_CLOEXEC = 0o2 | 0o4000 | 0o2000000;
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETQUEUE = 0x400454d9;
const SIOCSIFTXQLEN = 0x8943;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GDRVINFO = 0x03;
const ETHTOOL_GLINK = 0x0a;
/** At least struct ethtool_drvinfo, which is the longer one. */
const ETHTOOL_ANSWER_BYTES = 256;
const IFF_TUN = 0x0001;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

/** TUNSETOFFLOAD: checksums, TCP and UDP segmentation; the two of UDP (Linux 6.2) only together. */
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_USO4_USO6 = 0x60;

/** Packets that may wait for us: a burst of small packets overflows the kernel's default of 500. */
const TRANSMIT_QUEUE_PACKETS = 2000;

/** What the kernel leaves to the reader of the TUN. */
export type TunOffloads = 'none' | 'tcp' | 'tcp+udp';

export interface Tun {
  /** What packets are read from. */
  readonly queues: readonly number[];
  /** What packets are written to: the queue where that is the only one. */
  readonly writer: number;
  readonly name: string;
  readonly index: number;
  readonly offloads: TunOffloads;
}

/**
 * Opens the TUN `name` in the calling thread's namespace, making it where it does not exist. A device stays what it was
 * made as: with one queue, or for several.
 */
export function openTun(name: string, wanted: TunOffloads, queues = 1): Tun {
  if (!/^[^\s/]{1,15}$/.test(name))
    throw new UnavailableError('ERR_DEVICE_NAME', `${JSON.stringify(name)} cannot be an interface's name`, {
      hint: 'at most 15 characters, without spaces and slashes',
    });
  const calls = systemCalls();
  const opened: number[] = [];
  const attached = () => {
    const fd = openTunFile();
    opened.push(fd);
    if (calls.ioctl(fd, TUNSETIFF, interfaceRequest(name, attachFlags(queues > 1))) < 0)
      throw attachFailed(name, calls.errno(), queues > 1);
    return fd;
  };
  try {
    // The kernel refuses a second reader of a single queue only.
    if (queues > 1 && isHeld(name)) throw deviceBusy(name);
    const first = attached();
    if (calls.ioctlValue(first, TUNSETPERSIST, 1) < 0) throw systemCallFailed(`making ${name} persistent`);
    const headerBytes = new Uint8Array([VIRTIO_NET_HEADER_BYTES, 0, 0, 0]);
    if (calls.ioctl(first, TUNSETVNETHDRSZ, headerBytes) < 0) throw systemCallFailed('TUNSETVNETHDRSZ');
    const offloads = setOffloads(first, wanted);
    setTransmitQueue(name);
    const device = { name, index: interfaceIndex(name), offloads };
    if (queues === 1) return { ...device, queues: [first], writer: first };
    if (calls.ioctl(first, TUNSETQUEUE, interfaceRequest('', IFF_DETACH_QUEUE)) < 0)
      throw systemCallFailed(`detaching a queue of ${name}`);
    const readers = Array.from({ length: queues }, attached);
    return { ...device, queues: readers, writer: first };
  } catch (error) {
    for (const fd of opened) calls.close(fd);
    throw error;
  }
}

function openTunFile(): number {
  const fd = systemCalls().open(TUN_PATH, O_RDWR_NONBLOCK_CLOEXEC);
  if (fd < 0) throw openFailed(systemCalls().errno());
  return fd;
}

const attachFlags = (several: boolean) =>
  IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0);

/** Takes the persistent device `name` away again. Fails where another process has it. */
export function removeTun(name: string): void {
  const { writer } = openTun(name, 'none');
  if (systemCalls().ioctlValue(writer, TUNSETPERSIST, 0) < 0) throw systemCallFailed(`removing ${name}`);
  systemCalls().close(writer);
}

function setOffloads(fd: number, wanted: TunOffloads): TunOffloads {
  const calls = systemCalls();
  const withUdp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_USO4_USO6;
  if (wanted === 'tcp+udp' && calls.ioctlValue(fd, TUNSETOFFLOAD, withUdp) === 0) return 'tcp+udp';
  if (wanted !== 'none' && calls.ioctlValue(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) === 0) return 'tcp';
  if (calls.ioctlValue(fd, TUNSETOFFLOAD, 0) < 0) throw systemCallFailed('TUNSETOFFLOAD');
  return 'none';
}

/** Whether the device is a TUN, up, and in somebody's hands: one that nobody holds has no carrier. */
function isHeld(name: string): boolean {
  const driver = askEthtool(name, ETHTOOL_GDRVINFO)?.subarray(4, 8);
  if (driver === undefined || new TextDecoder().decode(driver) !== 'tun\0') return false;
  return askEthtool(name, ETHTOOL_GLINK)?.[4] === 1;
}

/** What the device answers to an ethtool command, the command's own 4 bytes first. */
function askEthtool(name: string, command: number): Uint8Array | undefined {
  const calls = systemCalls();
  const control = calls.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return undefined;
  const arena = new Arena(ETHTOOL_ANSWER_BYTES);
  arena.view.setUint32(0, command, true);
  const request = interfaceRequest(name);
  new DataView(request.buffer).setBigUint64(IFNAMSIZ, BigInt(arena.base), true);
  const answered = calls.ioctl(control, SIOCETHTOOL, request) === 0;
  calls.close(control);
  return answered ? arena.bytes.subarray(0, ETHTOOL_ANSWER_BYTES) : undefined;
}

/** Whether `name` is a TUN that was made for several queues, or was not, as asked. */
function isTunFor(several: boolean, name: string): boolean {
  const calls = systemCalls();
  const fd = openTunFile();
  const attached = calls.ioctl(fd, TUNSETIFF, interfaceRequest(name, attachFlags(several))) === 0;
  const result = attached || calls.errno() === EBUSY;
  calls.close(fd);
  return result;
}

/** Best effort: a shorter queue drops earlier under a burst, and is counted by the kernel on the device. */
function setTransmitQueue(name: string): void {
  const calls = systemCalls();
  const control = calls.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return;
  const request = interfaceRequest(name);
  new DataView(request.buffer).setInt32(IFNAMSIZ, TRANSMIT_QUEUE_PACKETS, true);
  calls.ioctl(control, SIOCSIFTXQLEN, request);
  calls.close(control);
}

function openFailed(errno: number): Error {
  const got = errnoName(errno);
  if (errno === ENOENT || errno === ENODEV || errno === ENXIO)
    return new UnavailableError(
      'ERR_NO_TUN',
      `${TUN_PATH} is not there (${got}): no TUN device can be made`,
      {
        hint: '`modprobe tun`, or in a container `--device /dev/net/tun`',
      },
    );
  if (errno === EACCES || errno === EPERM)
    return new UnavailableError(
      'ERR_PRIVILEGE',
      `${TUN_PATH} may not be opened for reading and writing (${got})`,
      {
        hint: 'run as root, or `chmod 666 /dev/net/tun`; in a container whose runtime forbids it: `--device /dev/net/tun`',
      },
    );
  return systemCallFailed(`opening ${TUN_PATH}`, errno);
}

function attachFailed(name: string, errno: number, several: boolean): Error {
  if (errno === EPERM)
    return new UnavailableError(
      'ERR_PRIVILEGE',
      `the TUN device ${name} needs CAP_NET_ADMIN, which this process does not have`,
      { hint: 'run as root, or give it: `setcap cap_net_admin,cap_net_raw+ep $(command -v node)`' },
    );
  if (errno === EBUSY) return deviceBusy(name);
  if (errno === EINVAL && isTunFor(!several, name)) return madeOtherwise(name, several);
  if (errno === EINVAL)
    return new UnavailableError(
      'ERR_DEVICE_TAKEN',
      `the name ${name} is taken by a device that is no TUN, such as the kernel's own tunnel`,
      {
        hint: `look with \`ip -d link show ${name}\`; rename it, \`rmmod ipip\`, or choose a name with --device`,
      },
    );
  return systemCallFailed(`making the TUN device ${name}`, errno);
}

function deviceBusy(name: string): Error {
  return new UnavailableError('ERR_DEVICE_BUSY', `the TUN device ${name} is in another process's hands`, {
    hint: 'who has it: `tortie node status`, `tortie tunnel status`; or choose a name with --device',
  });
}

function madeOtherwise(name: string, several: boolean): Error {
  const [made, wanted] = several
    ? ['for one queue', 'for several, which --queues asks for']
    : ['for several queues', 'for one'];
  const other = several ? 'leave out --queues' : 'give --queues 2 or more';
  return new UnavailableError(
    'ERR_DEVICE_QUEUES',
    `the TUN device ${name} was made ${made}, and cannot be opened ${wanted}`,
    { hint: `\`ip link delete ${name}\`: it is made anew, its addresses and routes are gone; or ${other}` },
  );
}

/** Packets that the host routes into the device. A slot's packet begins with its virtio-net header. */
export class TunSource implements PacketSource {
  readonly batch: PacketBatch;
  readonly #fd: number;
  readonly #base: number;
  readonly #calls = systemCalls();

  constructor(fd: number, arena: Arena, batch: PacketBatch) {
    this.#fd = fd;
    this.#base = arena.base;
    this.batch = batch;
  }

  receive(most = this.batch.capacity): number {
    const { batch } = this;
    let count = 0;
    while (count < most) {
      const length = this.#calls.read(this.#fd, this.#base + batch.offset(count), SLOT_BYTES);
      // EAGAIN: empty. EBADFD: the device was deleted under us; the composition root watches for that.
      if (length <= 0) break;
      batch.setLength(count++, length);
    }
    batch.count = count;
    return count;
  }
}

/** Packets into the host, as if they had arrived by the device; the first piece begins with a virtio-net header. */
export class TunSink implements PacketSink {
  readonly batch: PieceBatch;
  failure = SEND_OK;
  readonly #fd: number;
  readonly #base: number;
  readonly #calls = systemCalls();

  constructor(fd: number, arena: Arena, batch: PieceBatch) {
    this.#fd = fd;
    this.#base = arena.base;
    this.batch = batch;
  }

  send(from: number): number {
    const { batch } = this;
    this.failure = SEND_OK;
    let packet = from;
    while (packet < batch.packetCount) {
      if (this.#write(packet) < 0) {
        const errno = this.#calls.errno();
        if (errno === EINTR) continue;
        this.failure = failureOf(errno);
        break;
      }
      packet++;
    }
    return packet - from;
  }

  #write(packet: number): number {
    const { batch } = this;
    const first = batch.firstPiece(packet);
    const count = batch.endPiece(packet) - first;
    if (count === 1)
      return this.#calls.write(this.#fd, this.#base + batch.offset(first), batch.length(first));
    return this.#calls.writev(this.#fd, this.#base + batch.vector(first), count);
  }
}

function failureOf(errno: number): number {
  if (errno === EAGAIN) return SEND_AGAIN;
  if (errno === EIO || errno === EBADFD) return SEND_DOWN;
  return SEND_REFUSED;
}
