/** What breaks a data plane, and that it says so: an ended thread, a device deleted under it, a receive buffer that is full. */
import { afterEach, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { openCapture } from '../../src/io/capture.ts';
import { systemCalls } from '../../src/io/libc.ts';
import { inNetworkNamespace, namedNetworkNamespace } from '../../src/io/netns.ts';
import { openRawGuard, openRawReceiver, openRawSender } from '../../src/io/raw-socket.ts';
import { SO_RCVBUF, SOL_SOCKET, setIntegerOption, socketAddress } from '../../src/io/socket-options.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { ipv4In } from '../helpers/frames.ts';
import { ipv4Packet } from '../helpers/packets.ts';
import { ip, makeTwoNodes, NODE_A, NODE_B, type TwoNodes } from '../helpers/two-nodes.ts';

let nodes: TwoNodes | undefined;

afterEach(async () => {
  await nodes?.close();
  nodes = undefined;
});

test('a device that is deleted under the data plane ends it, with a reason', async () => {
  const ended: Error[] = [];
  nodes = await makeTwoNodes('gone', { onExit: (error) => ended.push(error) });
  ip('-n', nodes.a, 'link', 'del', 'tunl0');
  await poll(systemClock, 10_000, 10, async () => (ended.length > 0 ? true : undefined));
  expect(ended[0]!.message).toMatch(/a packet thread stopped: .*is gone/);
  // What is ordered afterwards fails, instead of waiting for a thread that is not there.
  await expect(nodes.planes.a.change({ revision: 2, operations: [] })).rejects.toThrow(/is gone/);
  expect(ended).toHaveLength(1);
});

test('a full receive buffer is loss, and not "protocol unreachable" to the peers, thanks to the guard', async () => {
  nodes = await makeTwoNodes('full', { speech: { transport: 'udp', udpPort: 5555 } });
  const inB = (open: () => number) => inNetworkNamespace(namedNetworkNamespace(nodes!.b), open);
  const capture = openCapture({ netnsPath: namedNetworkNamespace(nodes.a), interface: 'eth0' });
  const sender = inNetworkNamespace(namedNetworkNamespace(nodes.a), openRawSender);
  // A receiver that nobody reads.
  const open = [inB(openRawReceiver)];
  setIntegerOption(open[0]!, SOL_SOCKET, SO_RCVBUF, 4096, 'setting SO_RCVBUF');
  const packet = ipv4Packet(4, new Array(1400).fill(0), { source: ipv4(NODE_A), destination: ipv4(NODE_B) });
  const unreachables = () => {
    for (let i = 0; i < 50; i++)
      systemCalls().sendto(sender, packet, packet.length, 0, socketAddress(ipv4(NODE_B)), 16);
    const packets = capture.read().flatMap(({ bytes }) => ipv4In(bytes) ?? []);
    return packets.filter((each) => each[9] === 1 && each[20] === 3 && each[21] === 2).length;
  };
  try {
    // Without it this kernel does answer (one in a second, by its limit); the test discriminates.
    expect(await poll(systemClock, 5000, 50, async () => unreachables() || undefined)).toBeGreaterThan(0);
    open.push(inB(openRawGuard));
    unreachables();
    const seen: number[] = [];
    while (seen.length < 15) {
      seen.push(unreachables());
      await systemClock.sleep(100); // sleeps: in so long a time the kernel's limit would let one pass
    }
    expect(seen).toEqual(new Array(15).fill(0));
  } finally {
    capture.close();
    for (const fd of [sender, ...open]) systemCalls().close(fd);
  }
});
