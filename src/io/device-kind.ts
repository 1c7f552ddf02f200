/** What the kernel tells of a device by its number, in the calling thread's namespace. */
import { IFNAMSIZ, interfaceRequest } from './interface-request.ts';
import { systemCalls } from './libc.ts';
import { AF_INET, openSocket, SOCK_DGRAM } from './socket-options.ts';

const SIOCGIFNAME = 0x8910;
const SIOCGIFHWADDR = 0x8927;
/**
 * ARPHRD_ETHER, with which an Ethernet device's address begins; a TUN, WireGuard and tunnels of the kernel's are others,
 * with a hardware address or without.
 */
const ETHERNET = 1;

export interface DeviceKind {
  readonly name: string;
  readonly isEthernet: boolean;
}

/** undefined where there is none of that number. */
export function deviceKind(index: number): DeviceKind | undefined {
  const calls = systemCalls();
  const control = openSocket(AF_INET, SOCK_DGRAM, 0, 'a socket to ask about devices');
  const request = interfaceRequest('');
  const view = new DataView(request.buffer);
  try {
    view.setInt32(IFNAMSIZ, index, true);
    if (calls.ioctl(control, SIOCGIFNAME, request) < 0) return undefined;
    const name = new TextDecoder().decode(request.subarray(0, request.indexOf(0)));
    if (calls.ioctl(control, SIOCGIFHWADDR, request) < 0) return undefined;
    return { name, isEthernet: view.getUint16(IFNAMSIZ, true) === ETHERNET };
  } finally {
    calls.close(control);
  }
}
