/** Sends many requests about routes to the kernel in few calls: 20,000 take a tenth of a second, and no process. */
import { decodeNetlink } from '../wire/rtnetlink.ts';
import { systemCallFailed } from './errno.ts';
import { systemCalls } from './libc.ts';
import { MessageBuffer } from './message-buffer.ts';
import { AF_NETLINK, NETLINK_ROUTE, SOCKADDR_NL_BYTES } from './route-socket.ts';
import { openSocket, SOCK_RAW } from './socket-options.ts';

/** Answers to one call wait in the socket's buffer: some 200 KB, where each error takes about 1 KB. */
const REQUESTS_PER_CALL = 100;

/**
 * The kernel works on a call's requests, in order, before it returns. Requests ask for no acknowledgement, so what
 * comes back is errors. Gives for each refused request, by the sequence number in it, the errno.
 */
export function sendRouteRequests(requests: readonly Uint8Array[]): ReadonlyMap<number, number> {
  const refused = new Map<number, number>();
  if (!requests.length) return refused;
  const calls = systemCalls();
  const fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'a netlink socket');
  const answers = new MessageBuffer();
  const kernel = new Uint8Array(SOCKADDR_NL_BYTES);
  new DataView(kernel.buffer).setUint16(0, AF_NETLINK, true);
  try {
    for (let from = 0; from < requests.length; from += REQUESTS_PER_CALL) {
      const batch = Buffer.concat(requests.slice(from, from + REQUESTS_PER_CALL));
      if (calls.sendto(fd, batch, batch.length, 0, kernel, kernel.length) < 0)
        throw systemCallFailed('telling the kernel about routes');
      for (;;) {
        const length = answers.receive(fd, 'a netlink socket');
        if (length < 0) break;
        for (const message of decodeNetlink(answers.arena.bytes, answers.data, length))
          if (message.kind === 'error' && message.errno !== 0) refused.set(message.sequence, message.errno);
      }
    }
  } finally {
    calls.close(fd);
  }
  return refused;
}
