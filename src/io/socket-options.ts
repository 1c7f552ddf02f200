/** Socket constants (asm-generic, little-endian machines) and the few options that several sockets share. */
import { UnavailableError } from '../base/errors.ts';
import { EAFNOSUPPORT, EPERM, systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';

export const AF_INET = 2;
export const AF_PACKET = 17;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_SOCKET = 1;
export const SO_RCVBUF = 8;
export const SO_SNDBUF = 7;
export const SO_TIMESTAMPNS = 35;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
export const SOL_RAW = 255;
export const ICMP_FILTER = 1;
export const SOL_PACKET = 263;
export const PACKET_VNET_HDR = 15;

export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_IPIP = 4;
export const IPPROTO_RAW = 255;
export const ETH_P_ALL = 0x0003;

export const MSG_DONTWAIT = 0x40;

/** A socket of the calling thread's network namespace, never blocking, closed on exec. */
export function openSocket(domain: number, type: number, protocol: number, what: string): number {
  const calls = systemCalls();
  const fd = calls.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd >= 0) return fd;
  const errno = calls.errno();
  if (errno === EPERM)
    throw new UnavailableError(
      'ERR_PRIVILEGE',
      `${what} needs CAP_NET_RAW, which this process does not have`,
      {
        hint: 'run as root, or give it: `setcap cap_net_admin,cap_net_raw+ep $(command -v node)`',
      },
    );
  if (errno === EAFNOSUPPORT)
    throw new UnavailableError(
      'ERR_PRIVILEGE',
      `${what} is refused: sockets of its family are not allowed here`,
      {
        hint: 'in a unit of systemd, RestrictAddressFamilies= has to name AF_UNIX AF_INET AF_NETLINK and AF_PACKET',
      },
    );
  throw systemCallFailed(`opening ${what}`, errno);
}

export function setIntegerOption(fd: number, level: number, name: number, value: number, what: string): void {
  const calls = systemCalls();
  if (calls.setsockopt(fd, level, name, integerBytes(value), 4) < 0) throw systemCallFailed(what);
}

/**
 * Kernel buffers of `size` bytes in both directions. FORCE passes the host's limit and needs CAP_NET_ADMIN;
 * without it the kernel gives as much as the limit allows, which is slower under load but not wrong.
 */
export function setBufferSizes(fd: number, size: number): void {
  const calls = systemCalls();
  const value = integerBytes(size);
  if (calls.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, value, 4) < 0)
    setIntegerOption(fd, SOL_SOCKET, SO_RCVBUF, size, 'setting SO_RCVBUF');
  if (calls.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, value, 4) < 0)
    setIntegerOption(fd, SOL_SOCKET, SO_SNDBUF, size, 'setting SO_SNDBUF');
}

export function integerBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** struct sockaddr_in of `address` and `port`. */
export function socketAddress(address: number, port = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  view.setUint32(4, address);
  return bytes;
}
